"""Find the workflow: at the top of a checkout, or inside the package if it was installed from a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from spineseg.code_digest import PACKAGE
from spineseg.errors import InputError
from spineseg.spelling import closest

CHECKOUT = PACKAGE.parent


def is_checkout() -> bool:
    """Whether the package is in a checkout, or in an unpacked source distribution."""
    return (CHECKOUT / "Snakefile").is_file() and (CHECKOUT / "rules").is_dir()


def workflow_folder() -> Path:
    """Return the folder with ``Snakefile``, ``rules``, ``envs`` and ``profiles``.

    Raises
    ------
    InputError
        If there is none.
    """
    folder = CHECKOUT if is_checkout() else PACKAGE / "workflow"
    if not (folder / "Snakefile").is_file():
        raise InputError(f"{folder}: expected the workflow's Snakefile, found none; install spineseg again")
    return folder


def find_profile(name: str, beside: Path) -> Path:
    """Return the folder of a profile: beside the configuration, at a path, or a shipped one.

    Parameters
    ----------
    name : str
        ``slurm``, ``default``, or a path.
    beside : Path
        Folder of the configuration; ``profiles/<name>`` in it comes first.

    Raises
    ------
    InputError
        If there is none.
    """
    shipped = workflow_folder() / "profiles"
    for folder in (beside / "profiles" / name, Path(name), shipped / name):
        if (folder / "profile.yaml").is_file():
            return folder.resolve()
    known = sorted(path.parent.name for path in shipped.glob("*/profile.yaml"))
    raise InputError(
        f"-profile {name}: expected {', '.join(known)}, or a folder with a profile.yaml, found neither"
        f"{closest(name, known)}; for your own, copy the folder of a shipped one ({shipped}) to"
        f" {beside / 'profiles' / Path(name).name}"
    )


def copy_profile(name: str, beside: Path) -> Path:
    """Copy a shipped profile beside a configuration, for the user to complete; return the file.

    Raises
    ------
    InputError
        If there is no such profile, or one is there already.
    """
    source, target = find_profile(name, beside), beside / "profiles" / name
    if target.exists():
        raise InputError(f"{target}: exists already; edit it, or delete it for a fresh copy")
    shutil.copytree(source, target)
    return target / "profile.yaml"
