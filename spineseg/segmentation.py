"""The result that every segmentation method returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.writing import all_or_none, file_stem, write_text

if TYPE_CHECKING:
    from spineseg.centerline.curve import Centerline
    from spineseg.volume import NativeGrid


@dataclass(frozen=True, eq=False)  # == of arrays gives an array, not one bool
class Segmentation:
    """A cord mask on the canonical grid of the image, with how it was computed.

    Parameters
    ----------
    cord_prob : (I, J, K) ndarray of float32, 0 to 1
        Partial volume (propseg) or probability (deepseg).
    cord_mask : (I, J, K) ndarray of bool
        The binary mask.
    centerline : Centerline or None
        The curve that the method followed; None if no cord was found.
    status : {"ok", "partial", "empty"}
        Whether cord was found along the whole field of view, in part of it, or nowhere.
    notes : tuple of str
        Notes for people, one line each: which slices are missing, bridged or cut, and why.
    parameters : dict
        Parameters with the values that were used, ready for JSON.
    extra : dict
        By-products that the user asked for. Each key is the ending of the file to write beside the mask:
        ``"_centerline.nii.gz"`` maps to an (I, J, K) ndarray on the canonical grid,
        ``"_mesh.vtk"`` or ``".txt"`` to a str. The file name is the image's stem plus that ending.
    uncertainty : (K,) ndarray of float32, 0 to 1, optional
        Uncertainty of each slice, from inferior to superior: 0 sure, 1 a guess; NaN where the method gives none.
    sources : tuple of str
        Files other than the image from which the mask was made.
    peak_mib : float, optional
        Peak memory of the program that made the mask, MiB; None if this process made it.
    grid : NativeGrid, optional
        The image's own grid; None inside a method, which sees only the canonical volume.
    """

    cord_prob: np.ndarray
    cord_mask: np.ndarray
    centerline: Centerline | None
    status: str
    notes: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    uncertainty: np.ndarray | None = None
    sources: tuple[str, ...] = ()
    peak_mib: float | None = None
    grid: NativeGrid | None = None

    def __repr__(self) -> str:
        """Show status, number of voxels and notes, not the arrays."""
        notes = f", notes={self.notes!r}" if self.notes else ""
        return f"Segmentation({self.status!r}, {int(self.cord_mask.sum())} of {self.cord_mask.shape} voxels{notes})"

    def save(self, path: str | Path, *, soft: bool = False) -> tuple[Path, ...]:
        """Write the mask and its by-products on the image's own grid. Either all files are written or none.

        An existing mask of that name is replaced; any other file is not. The sidecar of the earlier mask is deleted,
        because it would not describe the new one.

        Parameters
        ----------
        path : str or Path
            Name of the mask, ending in ``.nii`` or ``.nii.gz``.
        soft : bool
            Write `cord_prob` as float32 instead of the binary mask (uint8).

        Returns
        -------
        files : tuple of Path
            The mask first.

        Raises
        ------
        InputError
            If the grid is unknown, if a file at the path is not a mask (for example the image itself), or if a file
            cannot be written.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"expected the path of the mask to write, found {type(path).__name__}")
        path = Path(path)
        if self.grid is None:
            raise InputError(f"{path}: this segmentation knows no grid to be saved on; take it from spineseg.segment")
        if not path.name.endswith((".nii", ".nii.gz")):
            raise InputError(f"{path}: expected the name of a file that ends in .nii or .nii.gz")
        if path.exists():
            _check_is_mask(path)
        with all_or_none(sidecar_path(path)):
            return self.write(path, self.grid, file_stem(path), soft=soft)[0]

    def write(self, path: Path, grid: NativeGrid, stem: str, *, soft: bool) -> tuple[tuple[Path, ...], str]:
        """Write the mask and the by-products, named after `stem`; return the files, and the mask's SHA-256."""
        from spineseg.volume import save_volume

        if soft:
            mask_sha256 = save_volume(path, self.cord_prob.clip(0, 1), grid, np.float32)
        else:
            mask_sha256 = save_volume(path, self.cord_mask, grid, np.uint8)
        files = [path]
        for ending, content in self.extra.items():
            beside = path.with_name(stem + ending)
            if isinstance(content, np.ndarray):
                save_volume(beside, content, grid, np.uint8 if content.dtype == bool else content.dtype.type)
            else:
                write_text(beside, content)
            files.append(beside)
        return tuple(files), mask_sha256


def _check_is_mask(path: Path) -> None:
    """Refuse to replace any file other than a mask: an overwritten image cannot be recovered."""
    from spineseg.volume import load_mask

    try:
        load_mask(path)
    except InputError as error:
        raise InputError(f"{path}: exists and is not a mask, so it is not replaced; name another file") from error
