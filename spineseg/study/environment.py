"""The conda environment of the workflow, one for each state of the code."""

from __future__ import annotations

import base64
import hashlib
import io
import shlex
import zipfile
from importlib import metadata
from pathlib import Path

from spineseg.code_digest import PACKAGE, digest_code, read_outlines
from spineseg.study.workflow_files import CHECKOUT, is_checkout
from spineseg.version import find_version
from spineseg.writing import write_bytes, write_text

NAME = "spineseg"
ENDINGS = (".yaml", ".post-deploy.sh")
"""The environment, and the script that is run in it after it is created."""

OF_THE_INSTALLATION = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}
"""Files of an installed package's metadata that pip writes; a wheel has none of them but RECORD, which lists it."""


def write_environment(workflow: Path, folder: Path) -> str:
    """Write the environment's files with the digest of all code in them and return the path of the YAML.

    Snakemake distinguishes environments by the content of these files. With the digest in them, an environment is
    used only for the code for which it was made, even if the checkout is updated or is another one.

    Parameters
    ----------
    workflow : Path
        Folder of the workflow, with ``envs/spineseg.yaml``, ``envs/spineseg.post-deploy.sh`` and ``constraints.txt``.
    folder : Path
        Folder to write to; files there are replaced only if they differ.
    """
    code = digest_code(*read_outlines())
    line = f"# spineseg at {PACKAGE.parent}, code {code}\n"
    package = str(CHECKOUT) if is_checkout() else pack_installed(folder / code[:12])
    for ending in ENDINGS:
        text = (workflow / "envs" / f"{NAME}{ending}").read_text(encoding="utf-8")
        first, _, rest = text.partition("\n")  # the first line of a script names its interpreter
        text = f"{first}\n{line}{rest}".replace("@PACKAGE@", shlex.quote(package))
        text = text.replace("@CONSTRAINTS@", shlex.quote(str(workflow / "constraints.txt")))
        target = folder / f"{NAME}{ending}"
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            write_text(target, text)
    return str((folder / f"{NAME}{ENDINGS[0]}").resolve())


def pack_installed(folder: Path) -> str:
    """Make a wheel of the package as it is installed here, so that another environment gets the same code.

    Returns
    -------
    requirement : str
        Absolute path of the wheel; ``spineseg==<version>`` if it is not known which files were installed.
    """
    try:
        installed = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        return f"{NAME}=={find_version()}"
    target = folder.resolve() / f"{NAME}-{installed.version}-py3-none-any.whl"
    if target.is_file():
        return str(target)
    files = [file for file in installed.files or () if file.name not in OF_THE_INSTALLATION]
    about = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    content, record = io.BytesIO(), ""
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in sorted(files):
            if file.parts[0] not in (NAME, about) or "__pycache__" in file.parts:
                continue
            data = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            record += f"{file.as_posix()},sha256={digest},{len(data)}\n"
            wheel.writestr(file.as_posix(), data)
        wheel.writestr(f"{about}/RECORD", f"{record}{about}/RECORD,,\n")
    write_bytes(target, content.getvalue())
    return str(target)
