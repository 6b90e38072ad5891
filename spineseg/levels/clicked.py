"""Read the file with clicked discs that the quality-control page saves, and write the discs as labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.levels.names import LAST_LEVEL, PMJ_VALUE, disc_name
from spineseg.provenance import sha256_file
from spineseg.reading import read_json
from spineseg.volume import NativeGrid, save_volume, to_canonical
from spineseg.writing import file_stem

CONFIRMED = "confirmed"
"""State of a disc that a person has placed or confirmed; discs in other states are proposals and are left out."""

MEND = "save it again with the page's button 'Save levels'"


@dataclass(frozen=True)
class ClickedImage:
    """Discs of one image.

    Parameters
    ----------
    image : str
        Name of the image in the page: the id of a study's image.
    file : str
        Name of its file.
    image_sha256 : str
        First digits of its file's SHA-256; empty in files from before 28 November 2026.
    discs : dict of int to (3,) ndarray, mm
        Position in scanner coordinates (RAS+) of each confirmed disc by its value; 50: pontomedullary junction.
    """

    image: str
    file: str
    discs: Mapping[int, NDArray[np.float64]]
    image_sha256: str = ""

    @property
    def stem(self) -> str:
        """Name of its file without extension."""
        return file_stem(Path(self.file or self.image))

    def is_of(self, path: str | Path) -> bool:
        """Whether a file is the image that was clicked; True if no checksum was saved (its name must match then).

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        try:
            return not self.image_sha256 or sha256_file(path).startswith(self.image_sha256)
        except OSError as error:
            raise InputError(f"{path}: expected the image that was clicked, found {error.strerror}") from error


def read_clicked(path: str | Path) -> list[ClickedImage]:
    """Read a file that the page saved.

    Raises
    ------
    InputError
        If it is missing or damaged, has an unknown disc value, or names a disc or an image twice.
    """
    content = read_json(Path(path), "levels of the quality-control page")
    try:
        found = [_read_image(one) for one in content["levels"]]
        known = [(one.image, one.image_sha256) for one in found]
        if twice := [name for n, (name, _) in enumerate(known) if known[n] in known[:n]]:
            raise ValueError(f"the image {twice[0]} twice")
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: expected levels of the quality-control page, found {error}; {MEND}") from error


def _read_image(content: Mapping[str, Any]) -> ClickedImage:
    """Read one image."""
    discs: dict[int, NDArray[np.float64]] = {}
    for one in content["discs"]:
        if one["state"] != CONFIRMED:
            continue
        value, place = one["value"], np.array([float(x) for x in one["mm"]])
        if not isinstance(value, int) or not (1 <= value <= LAST_LEVEL or value == PMJ_VALUE):
            raise ValueError(f"the disc {value!r} in {content['image']}")
        if place.shape != (3,) or not np.isfinite(place).all():
            raise ValueError(f"no place for disc {value} in {content['image']}")
        if value in discs:
            raise ValueError(f"disc {value} ({disc_name(value)}) twice in {content['image']}")
        discs[value] = place
    return ClickedImage(
        str(content["image"]), str(content.get("file", "")), discs, str(content.get("image_sha256") or "")
    )


def save_clicked(path: str | Path, clicked: ClickedImage, grid: NativeGrid) -> None:
    """Write the discs as labels on an image's grid, one voxel each, in SCT's convention.

    Raises
    ------
    InputError
        If there is no disc, two discs lie in one voxel, a disc lies outside the image, or a disc lies above one with
        a lower value.
    """
    canonical = to_canonical(np.zeros(grid.shape3, np.uint8), grid.affine)
    if not clicked.discs:
        raise InputError(f"{clicked.image}: expected discs, found none confirmed; click them in the page")
    labels = canonical.data.copy()
    to_voxel = np.linalg.inv(canonical.affine)
    for value, place in sorted(clicked.discs.items()):
        voxel = np.rint(to_voxel[:3, :3] @ place + to_voxel[:3, 3]).astype(int)
        if (voxel < 0).any() or (voxel >= canonical.shape).any():
            raise InputError(
                f"{clicked.image}: expected disc {value} inside the image, found it outside; are image and levels of "
                "one person and session?"
            )
        if labels[tuple(voxel)]:
            raise InputError(f"{clicked.image}: discs {labels[tuple(voxel)]} and {value} lie in one voxel; move one")
        labels[tuple(voxel)] = value
    _check_order(clicked, to_voxel)
    save_volume(path, labels, grid)


def _check_order(clicked: ClickedImage, to_voxel: NDArray) -> None:
    """Refuse discs that are not in order from the junction downwards along the image's inferior-superior axis."""
    order = sorted(clicked.discs, key=lambda value: 0 if value == PMJ_VALUE else value)
    heights = [float(to_voxel[2, :3] @ clicked.discs[value]) for value in order]
    for (upper, lower), (high, low) in zip(pairwise(order), pairwise(heights), strict=True):
        if low >= high:
            names = [disc_name(value) if value != PMJ_VALUE else "the junction" for value in (lower, upper)]
            raise InputError(
                f"{clicked.image}: expected {names[0]} below {names[1]}, found it above; swap them in the page"
            )
