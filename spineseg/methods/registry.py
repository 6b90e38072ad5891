"""The list of our own methods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from spineseg.errors import InputError, ModelError
from spineseg.memory_limit import check_address_limit
from spineseg.provenance import WEIGHTS_DIR, WEIGHTS_SUFFIXES, sha256_file


@dataclass(frozen=True)
class OwnMethod:
    """Description of one of our methods.

    Parameters
    ----------
    name : str
    summary : str
        Line in the overview of commands.
    params : str
        Module and class of its parameters, separated by a colon.
    adapter : str
        Module with ``prepare(params, weights, device, threads)``, which prepares the method.
    shipped_weights : str
        Pattern of the shipped weight files that it reads.
    weights_option : str
        Option that names the user's own weights, on the command line and in a configuration.
    address_mib : int
        Limit of the address space (``ulimit -v``) below which it cannot be loaded, MiB.
    color, print_color : str
        Colour on dark pages, and on white paper (contrast of at least 3:1).
    dash : str
        Line style as an SVG dash array.
    """

    name: str
    summary: str
    params: str
    adapter: str
    shipped_weights: str
    weights_option: str
    address_mib: int
    color: str
    print_color: str
    dash: str

    def params_class(self) -> type:
        """Return the dataclass of the method's parameters."""
        module, _, name = self.params.partition(":")
        return getattr(import_module(module), name)

    def load_adapter(self) -> Any:
        """Import the module that prepares the method.

        Raises
        ------
        MachineError
            If the memory limit is too low for its libraries.
        """
        check_address_limit(self.address_mib, self.name)
        return import_module(self.adapter)

    def hash_weights(self, own: str | Path | None = None) -> dict[str, str]:
        """Return file name and SHA-256 of the weights that the method reads.

        Parameters
        ----------
        own : str or Path, optional
            The user's own weights, a file or a folder of files, to hash instead of the shipped ones.

        Raises
        ------
        ModelError
            If there is no such file or folder.
        """
        if own:
            path = Path(own)
            if not path.exists():
                raise ModelError(f"{path}: no such weights file or folder")
            files = sorted(f for f in path.iterdir() if f.suffix in WEIGHTS_SUFFIXES) if path.is_dir() else [path]
        else:
            files = sorted(WEIGHTS_DIR.glob(self.shipped_weights))
        return {file.name: sha256_file(file) for file in files}


OWN_METHODS = {
    method.name: method
    for method in (
        OwnMethod(
            "propseg",
            "segment the cord with a propagated deformable tube",
            "spineseg.propseg.parameters:PropsegParams",
            "spineseg.methods.propseg",
            "optic*.safetensors",
            "detector",
            300,
            "#E69F00",
            "#B97A00",
            "",
        ),
        OwnMethod(
            "deepseg",
            "segment the cord with two neural networks",
            "spineseg.deepseg.parameters:DeepsegParams",
            "spineseg.methods.deepseg",
            "deepseg_*.safetensors",
            "weights",
            900,  # with less, torch aborts or (at 630 MiB) hangs; measured on a small image
            "#56B4E9",
            "#2A7FB8",
            "5 2.5",
        ),
    )
}
"""Name to method, in the order in which they are shown. Colours: orange and sky blue of Okabe and Ito's palette
(https://jfly.uni-koeln.de/color/)."""


def own_method(name: str) -> OwnMethod:
    """Return one of our methods by name.

    Raises
    ------
    InputError
        If no method of ours has this name.
    """
    if name not in OWN_METHODS:
        raise InputError(f"method {name!r}: expected one of {', '.join(OWN_METHODS)}")
    return OWN_METHODS[name]


def sort_methods(names: Iterable[str]) -> list[str]:
    """Return the distinct names, our methods first, the rest in alphabetical order, so that all studies agree."""
    known = {name: position for position, name in enumerate(OWN_METHODS)}
    return sorted(set(names), key=lambda name: (known.get(name, len(known)), name))
