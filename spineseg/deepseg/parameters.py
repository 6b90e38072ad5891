"""Parameters of deepseg that a user may set. They are separate from the networks so that help does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from spineseg.parameters import check_ranges, parameter


@dataclass(frozen=True)
class DeepsegParams:
    """Settings of deepseg; the help of each flag gives its meaning.

    `thr` is the threshold, applied on the image's own grid; None is `spineseg.deepseg.segment.default_threshold`.
    `min_confidence` is the detector's heat below which a slice counts as having no cord. `batch` is the number of
    patches per call; only speed and memory depend on it.
    """

    thr: float | None = parameter(
        None, "-thr", "probability from which a voxel is cord; default 0.5, t2 0.45, at conus less, fMRI 0.4",
        group="deepseg", metavar="P", least=0, most=1,
    )  # fmt: skip
    kernel: str = parameter(
        "2d", "-kernel", "slices alone, or with their neighbours; default 2d", group="deepseg", choices=("2d", "3d")
    )
    mirror: bool | None = parameter(
        None, "-mirror", "average over two to six views, half of them mirrored; 0: one view, faster; default 1 (SCT's"
        " weights: 0)", group="deepseg",
    )  # fmt: skip
    min_confidence: float = parameter(0.25, "", least=0)
    batch: int = parameter(32, "", least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
