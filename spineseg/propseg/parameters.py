"""Parameters of propseg: those that a user may set, and those that the contrast determines."""

from __future__ import annotations

from dataclasses import dataclass

from spineseg.contrasts import CONTRASTS, CORD_DARKER
from spineseg.errors import InputError
from spineseg.parameters import check_ranges, parameter

START, PROPAGATION, RESULTS = "where to start", "propagation", "results"
"""Headings of the command's help."""

STEP_MM = 0.2
"""Distance between two samples of an edge search; SCT counts ``-distance-search`` in these steps."""

BAND_MM = 6.0
"""Length that is propagated at once: three rings of 2 mm in the original."""

RING_MM = 2.0
"""Distance between rings during propagation; thicker slices have one ring each."""


CORD_CORE = (0.15, 0.3, 0.45, 0.6)
"""Shares of the radius at which the cord's intensity is measured: inside the cord even if the tube is half a radius
off."""

FLUID_CORE = (0.7, 0.78, 0.86)
"""Shares of the radius at which the fluid's intensity is measured, in the tube around it: outside the cord, inside the
surface."""


@dataclass(frozen=True)
class PropsegParams:
    """Parameters that a user may change; the defaults are SCT's. The help of each flag gives meaning and unit.

    `byproducts` names the files to make besides the mask (`spineseg.propseg.byproducts.BYPRODUCTS`). A value outside
    its range raises InputError.
    """

    init: float | None = parameter(
        None, "-init", "start of the propagation: fraction of the centerline up to 1, above it a slice (0-based, from"
        " below); default 0.5, or the nearest place where a cord shows", group=START, metavar="N", least=0,
    )  # fmt: skip
    radius_mm: float = parameter(
        4.0,
        "-radius",
        "approximate radius of the cord, mm, 0.5 to 30; default 4",
        group=START,
        metavar="MM",
        least=0.5,
        most=30,
    )
    max_area_mm2: float = parameter(
        120.0, "-max-area", "area of the cross-section at which propagation stops, mm²; default 120",
        group=PROPAGATION, metavar="MM2", above=0,
    )  # fmt: skip
    max_deformation_mm: float = parameter(
        2.5, "-max-deformation", "mean shift above which a new band is rejected, mm; default 2.5",
        group=PROPAGATION, metavar="MM", above=0,
    )  # fmt: skip
    min_contrast: float = parameter(
        50.0, "-min-contrast", "smallest contrast of cord and fluid, 0 to 1000 of the image; default 50",
        group=PROPAGATION, metavar="C", least=0,
    )  # fmt: skip
    distance_weight: float | None = parameter(
        None, "-d", "penalty of distance, 0 to 50 (more: stay near); default: by the local contrast",
        group=PROPAGATION, metavar="D", least=0,
    )  # fmt: skip
    alpha: float = parameter(
        25.0, "-alpha", "stiffness, no unit: how much the previous shape is kept; default 25",
        group=PROPAGATION, metavar="A", above=0,
    )  # fmt: skip
    distance_search: int = parameter(
        15, "-distance-search", "search for the edge on either side, steps of 0.2 mm; default 15 (3 mm)",
        group=PROPAGATION, metavar="N", above=0,
    )  # fmt: skip
    nbiter: int = parameter(
        200,
        "-nbiter",
        "largest number of bands (6 mm each) per direction; default 200",
        group=PROPAGATION,
        metavar="N",
        least=0,
    )
    down: int | None = parameter(
        None, "-down", "lowest slice of the mask, 0-based from below; default: the first",
        group=PROPAGATION, metavar="K", least=0,
    )  # fmt: skip
    up: int | None = parameter(
        None, "-up", "highest slice of the mask, 0-based from below; default: the last",
        group=PROPAGATION, metavar="K", least=0,
    )  # fmt: skip
    rescale: float = parameter(
        1.0, "-rescale", "multiplies the voxel size inside: 2 where a cord is half as thick; default 1",
        group=PROPAGATION, metavar="F", above=0,
    )  # fmt: skip
    csf: bool = parameter(
        False, "-CSF", "segment the fluid as well: <img>_CSF_seg.nii.gz", group=RESULTS, is_switch=True
    )
    correct_seg: bool = parameter(
        True, "-correct-seg", "1: check each slice against its neighbours, repair or drop what does not fit; default 1",
        group=RESULTS,
    )  # fmt: skip
    byproducts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.down is not None and self.up is not None and self.down > self.up:
            raise InputError(f"-down: expected at most -up ({self.up}), found {self.down}")


@dataclass(frozen=True)
class ContrastModel:
    """Parameters that the contrast determines."""

    sign: int  # {+1, -1}: +1 if fluid is brighter than cord, so that intensity rises outwards at the cord's edge
    n_vertices: int  # Vertices per ring during propagation; twice as many in the refinement
    prior_contrast: float  # 0 to 1000: start of the running mean of the contrast, from the original's training images
    # Shares of the radius at which the intensity inside the tube is measured
    core: tuple[float, ...] = CORD_CORE


def get_contrast_model(contrast: str) -> ContrastModel:
    """Return the contrast's model; raise InputError for an unknown contrast."""
    if contrast not in CONTRASTS:
        raise InputError(f"contrast: expected one of {' '.join(CONTRASTS)}, found {contrast!r}")
    if CORD_DARKER[contrast]:
        return ContrastModel(sign=1, n_vertices=15, prior_contrast=445.0)
    return ContrastModel(sign=-1, n_vertices=20, prior_contrast=200.0)


def compute_distance_weight(contrast: float) -> float:
    """Return the penalty on distance for a mean local contrast (0 to 1000).

    The original's parabola is negative below a contrast of 65, which would reward distance; ours is limited to 0.
    """
    return max(0.0, 1e-4 * contrast**2 + 0.02 * contrast - 1.6242)
