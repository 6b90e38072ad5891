"""The result that every segmentation method returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from spineseg.centerline.curve import Centerline

STATUSES = ("ok", "partial", "empty", "failed")


@dataclass(frozen=True)
class Segmentation:
    """A cord mask on the canonical grid of the image, and how it came about.

    Parameters
    ----------
    cord_prob : (I, J, K) ndarray of float32, 0 to 1
        Partial volume (propseg) or probability (deepseg).
    cord_mask : (I, J, K) ndarray of bool
        The binary mask.
    centerline : Centerline or None
        The curve that the method followed; None where no cord was found.
    status : {"ok", "partial", "empty"}
        Whether cord was found along the field of view, in a part, or not at all.
    notes : tuple of str
        One line each, for people: which slices are missing, bridged or cut, and why.
    parameters : dict
        Parameters as used, ready for JSON.
    extra : dict
        By-products the user asked for, keyed by the ending of the file to write beside the mask:
        ``"_centerline.nii.gz"`` maps to an (I, J, K) ndarray on the canonical grid,
        ``"_mesh.vtk"`` or ``".txt"`` to a str. The file name is the image's stem plus that ending.
    uncertainty : (K,) ndarray of float32, 0 to 1, optional
        How unsure the method is of its mask in each slice, from below: 0 sure, 1 a guess; nan where there is none.
    sources : tuple of str
        Files beside the image that it was made from.
    peak_mib : float, optional
        Peak memory of a program that made it, MiB; None where this process made it.
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
