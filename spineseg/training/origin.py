"""Provenance that is stored with trained weights: code, libraries, people, images and masks."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import spineseg
from spineseg.provenance import sha256_file
from spineseg.training.labelled_images import LabelledImage

LIBRARIES = ("numpy", "scipy", "torch")
"""Libraries whose versions affect the last digits of a training."""


def describe_code() -> dict[str, str]:
    """Return the versions of the package, of Python and of `LIBRARIES`, and the checksum of the package's source."""
    root = Path(spineseg.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    versions = {"spineseg": spineseg.__version__, "python": platform.python_version()}
    return versions | {name: version(name) for name in LIBRARIES} | {"source_sha256": digest.hexdigest()}


def describe_images(images: Sequence[LabelledImage]) -> list[dict[str, str]]:
    """Return the person, the image and the mask of each labelled image, with checksums, in order."""
    return [
        {
            "subject": item.subject,
            "image": item.image.name,
            "image_sha256": sha256_file(item.image),
            "reference": item.reference.name,
            "reference_sha256": sha256_file(item.reference),
        }
        for item in images
    ]


def describe_files(files: Iterable[Path]) -> dict[str, str]:
    """Return the name and checksum of files, sorted by name."""
    return {path.name: sha256_file(path) for path in sorted(files)}
