"""The methods that a study's configuration declares: ours, ours with other options, masks that exist, programs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spineseg.errors import InputError
from spineseg.options import OWN_METHODS
from spineseg.provenance import sha256_json, weights_of
from spineseg.study.spelling import closest
from spineseg.templates import COMMAND_NAMES, IMAGE_NAMES, fill_path, image_names, placeholders

if TYPE_CHECKING:
    from spineseg.methods import PreparedMethod

RESERVED = ("equivalent", "reference", "none", "measures", "perturbed")
"""Names that mean something else in tables, on pages or among the folders of a study."""

TIMEOUT_MIN = 30.0
"""Minutes that a program may take for an image unless the configuration says otherwise: ten times the slowest known."""

WEIGHTS_OPTION = {"deepseg": "weights", "propseg": "detector"}
"""Option that names a file of weights, as on the command line."""


@dataclass(frozen=True)
class DeclaredMethod:
    """One method of a study.

    Parameters
    ----------
    name : str
        As in tables, file names and pages.
    kind : {"propseg", "deepseg", "files", "command"}
    template : str
        Path of existing masks, or command.
    options : dict
        Of our own methods: flags of the command line without the dash, and their values.
    timeout_min : float, minutes
        Of a command, per image.
    version : str
        Of what made the masks, as the user states it.
    roots : tuple of str
        Folders in which existing masks are looked for.
    """

    name: str
    kind: str
    template: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    timeout_min: float = TIMEOUT_MIN
    version: str = ""
    roots: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is propseg or deepseg."""
        return self.kind in OWN_METHODS

    @property
    def weights(self) -> str | None:
        """The user's own weights or detector; None for the shipped ones."""
        value = self.options.get(WEIGHTS_OPTION.get(self.kind, ""))
        return str(value) if value else None

    def foreign_parameters(self) -> dict[str, Any]:
        """Return what masks that are not ours come from, as their sidecars say it."""
        return {self.kind: self.template} | ({"version": self.version} if self.version else {})

    def digest(self) -> str:
        """Return what changes when the method's declaration or its weights do."""
        stated = asdict(self) | {"timeout_min": None}  # how long it may take changes no mask
        return sha256_json([stated, weights_of(self.kind, self.weights) if self.is_own else None])

    def find_masks(self, row: Mapping[str, str]) -> list[str]:
        """Return the existing mask of an image, where there is one; `row` is of images.tsv."""
        if self.kind != "files":
            return []
        path = fill_path(self.template, image_names(row))
        return [str(Path(root) / path) for root in self.roots if (Path(root) / path).is_file()][:1]


def declared_methods(config: Mapping[str, Any]) -> dict[str, DeclaredMethod]:
    """Return the methods of a complete configuration by name, in its order.

    Raises
    ------
    InputError
        In one line that names the key: two methods of one name, a reserved name, an item that is
        neither ours nor files nor a command, an unknown placeholder.
    """
    methods: dict[str, DeclaredMethod] = {}
    for position, item in enumerate(config["methods"]):
        method = _declare(item, f"config key 'methods.{position}", config)
        if method.name.lower() in map(str.lower, methods):
            raise InputError(f"config key 'methods.{position}': a second method is named {method.name}; rename one")
        methods[method.name] = method
    return methods


def _declare(item: str | Mapping[str, Any], where: str, config: Mapping[str, Any]) -> DeclaredMethod:
    """Read one item of the list of methods."""
    item = {"name": item} if isinstance(item, str) else item
    name = item["name"]
    if name in RESERVED:
        raise InputError(f"{where}.name': {name!r} means something else in the tables; choose another name")
    given = [key for key in ("files", "command", "method") if key in item]
    if len(given) > 1:
        raise InputError(f"{where}': expected one of files, command, method; found {' and '.join(given)}")
    kind = given[0] if given else "method"
    if kind == "method" and (own := item.get("method", name)) not in OWN_METHODS:
        raise InputError(
            f"{where}': {name!r} is none of {', '.join(OWN_METHODS)}{closest(name, OWN_METHODS)}; say where its masks"
            " come from: files (existing masks), command (a program), or method (ours, with other options)"
        )
    _check_keys(item, kind, where)
    if kind == "method":
        return DeclaredMethod(name, own, options=dict(item.get("options") or {}))
    if name in OWN_METHODS:
        raise InputError(f"{where}.name': {name} is a method of spineseg; choose another name for the {kind}")
    _check_placeholders(item[kind], kind, f"{where}.{kind}'")
    roots = (config.get("bids_dir"), ".") if kind == "files" else ()
    return DeclaredMethod(
        name,
        kind,
        template=item[kind],
        timeout_min=float(item.get("timeout", TIMEOUT_MIN)),
        version=str(item.get("version", "")),
        roots=tuple(root for root in roots if root),
    )


def _check_keys(item: Mapping[str, Any], kind: str, where: str) -> None:
    """Refuse keys that mean nothing for this kind of method."""
    allowed = {"files": ("version",), "command": ("version", "timeout"), "method": ("options",)}[kind]
    for key in item:
        if key not in ("name", kind, *allowed):
            raise InputError(f"{where}.{key}': has no meaning beside {kind}; expected {', '.join(allowed)}")


def _check_placeholders(template: str, kind: str, where: str) -> None:
    """Refuse unknown placeholders, and templates that name no image."""
    known = COMMAND_NAMES if kind == "command" else IMAGE_NAMES
    try:
        names = placeholders(template)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    for name in names:
        if name not in known:
            listed = ", ".join(f"{{{n}}}" for n in known)
            raise InputError(
                f"{where}: no placeholder {{{name}}}{closest(name, known)}; known: {listed}; for braces write {{{{ }}}}"
            )
    if kind == "command" and not ({"image", "image_id"} & set(names) and {"mask", "folder"} & set(names)):
        raise InputError(f"{where}: expected {{image}} and {{mask}} (or {{folder}}) in the command, found {template!r}")
    if kind == "files" and not {"image_id", "stem", "subject"} & set(names):
        raise InputError(f"{where}: expected a path with {{image_id}} or {{subject}}, found {template!r}")


def check_declared(methods: Mapping[str, DeclaredMethod], images: Sequence[Mapping[str, str]] | None) -> None:
    """Check before anything runs what methods need: options, weights, programs, masks.

    Parameters
    ----------
    methods : dict of DeclaredMethod
    images : sequence of dict or None
        Included rows of images.tsv; None where they are not known yet.

    Raises
    ------
    InputError
        In one line that names the key. One image without a mask is no mistake, all of them are.
    """
    for position, method in enumerate(methods.values()):
        where = f"config key 'methods.{position}"
        if method.options:
            try:
                own_parameters(method)
                weights_of(method.kind, method.weights)
            except InputError as error:
                raise InputError(f"{where}.options': {error}") from error
        if method.kind == "command":
            _check_program(method.template, f"{where}.command'")
        if method.kind == "files" and images and not any(method.find_masks(row) for row in images):
            first = Path(method.roots[0]) / fill_path(method.template, image_names(images[0]))
            raise InputError(
                f"{where}.files': expected masks of the study's images such as {first}, found none"
                f" (looked in {' and '.join(map(str, method.roots))})"
            )


def _check_program(command: str, where: str) -> None:
    """Refuse a command whose program bash does not find."""
    try:
        words = [word for word in shlex.split(command) if "=" not in word.split("{")[0]]
    except ValueError as error:
        raise InputError(f"{where}: not a command that a shell reads ({str(error).lower()}): {command}") from error
    shell = shutil.which("bash") or "sh"
    if not words or "{" in words[0]:
        return
    known = subprocess.run(
        [shell, "-c", 'type "$1"', shell, words[0]], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    if known.returncode:
        raise InputError(f"{where}: no program {words[0]!r} was found; install it, or give its whole path")


def own_parameters(method: DeclaredMethod) -> Any:
    """Return the parameters that the options of one of our methods ask for.

    Raises
    ------
    InputError
        If an option is unknown or its value cannot be used.
    """
    from spineseg.options import params_from_options

    options = {k: v for k, v in method.options.items() if k != WEIGHTS_OPTION[method.kind]}
    return params_from_options(method.kind, options)


def prepare_declared(method: DeclaredMethod, *, device: str = "auto", threads: int = 1) -> PreparedMethod:
    """Make a declared method ready for images.

    Raises
    ------
    InputError
        If its options or weights cannot be used.
    """
    from spineseg.foreign import ExistingMasks, Program
    from spineseg.methods import PreparedMethod, prepare_method

    if method.is_own:
        return prepare_method(
            method.kind,
            own_parameters(method),
            weights=method.weights,
            device=device,
            threads=threads,
            name=method.name,
        )
    foreign = (
        ExistingMasks(method.template, tuple(map(Path, method.roots)))
        if method.kind == "files"
        else Program(method.template, method.timeout_min, threads)
    )
    return PreparedMethod(
        method.name, foreign.segment, method.foreign_parameters(), {}, threads=threads, foreign=foreign
    )
