"""Write the versions of constraints.txt with checksums, for an installation that checks every file.

    python envs/pin_hashes.py [-wheels DIR ...]

The checksums come from the package index (PyPI, or PIP_INDEX_URL). -wheels names folders of files that take the place
of the index's, such as a CPU build of torch. The result is `envs/requirements-hashed.txt`; docs/security.md says how it
is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
VERSIONS, TARGET = HERE.parent / "constraints.txt", HERE / "requirements-hashed.txt"


def normal(name: str) -> str:
    """Return a project's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_hashes(name: str, version: str, index: str) -> set[str]:
    """Return the SHA-256 of every file of one version."""
    request = urllib.request.Request(
        f"{index.rstrip('/')}/{normal(name)}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    start = re.compile(rf"{re.escape(normal(name))}-{re.escape(version)}(-|\.tar\.gz$|\.zip$)")
    return {
        file["hashes"]["sha256"]
        for file in files
        if not file.get("yanked")
        and start.match(re.sub(r"^(.*?)-(?=\d)", lambda m: normal(m[1]) + "-", file["filename"]))
    }


def is_file_of(path: Path, name: str, version: str) -> bool:
    """Tell whether a wheel is a build of a version."""
    own_name, own_version = path.name.split("-")[:2]
    return normal(own_name) == normal(name) and own_version.partition("+")[0] == version


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-wheels", nargs="*", default=[], metavar="DIR")
    args = parser.parse_args()
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
    local = [path for folder in args.wheels for path in sorted(Path(folder).glob("*.whl"))]
    lines = ["# Written by envs/pin_hashes.py from constraints.txt: do not edit."]
    pins = [line.split("#")[0].strip() for line in VERSIONS.read_text().splitlines()]
    for pin in sorted(filter(None, pins), key=str.lower):
        name, _, version = pin.partition("==")
        own = [path for path in local if is_file_of(path, name, version)]
        if own:
            version = own[0].name.split("-")[1]
            hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in own}
        else:
            hashes = find_hashes(name, version, index)
        if not hashes:
            raise SystemExit(f"{pin}: no file of this version found in {index}")
        listed = " \\\n    ".join(f"--hash=sha256:{value}" for value in sorted(hashes))
        lines.append(f"{name}=={version} \\\n    {listed}")
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} packages written to {TARGET}")


if __name__ == "__main__":
    main()
