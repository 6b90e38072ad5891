"""The conda environment of the workflow: one for each state of the code."""

from __future__ import annotations

import shlex
from pathlib import Path

from spineseg.code_digest import PACKAGE, digest_code, read_outlines
from spineseg.writing import write_text

NAME = "spineseg"
ENDINGS = (".yaml", ".post-deploy.sh")
"""The environment, and what is run in it once it is made."""


def write_environment(templates: Path, folder: Path) -> str:
    """Write the environment's files with the digest of all code in them and return the path of the YAML.

    Snakemake tells environments apart by the content of these files. With the digest in them an environment is
    not used for other code than it was made for, whether the checkout was updated or is another one.

    Parameters
    ----------
    templates : Path
        Folder of ``spineseg.yaml`` and ``spineseg.post-deploy.sh``.
    folder : Path
        Where to write; the files there are replaced only where they differ.
    """
    line = f"# spineseg at {PACKAGE.parent}, code {digest_code(*read_outlines())}\n"
    for ending in ENDINGS:
        text = (templates / f"{NAME}{ending}").read_text(encoding="utf-8")
        first, _, rest = text.partition("\n")  # a script's first line says what runs it
        text = f"{first}\n{line}{rest}".replace("@SOURCE@", shlex.quote(str(PACKAGE.parent)))
        target = folder / f"{NAME}{ending}"
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            write_text(target, text)
    return str((folder / f"{NAME}{ENDINGS[0]}").resolve())
