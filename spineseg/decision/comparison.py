"""The comparison of two methods by one endpoint, and the kinds of endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import asinh, exp, isfinite

import numpy as np
from numpy.typing import NDArray

from spineseg.measures import MEASURES


@dataclass(frozen=True)
class Kind:
    """A kind of endpoint.

    Parameters
    ----------
    key : str
        One of `spineseg.measures.MEASURES`.
    is_ratio : bool
        Whether estimates are logarithms of a ratio of SDs.
    caution : str
        Which method it may favour, and what it cannot show.
    """

    key: str
    is_ratio: bool = False
    caution: str = ""

    @property
    def words(self) -> str:
        """Short name for texts."""
        return MEASURES[self.key].words

    @property
    def unit(self) -> str:
        """Unit for texts; empty for scores."""
        return MEASURES[self.key].unit


STYLE = "A method trained on masks of the same style, or a reference drawn by a similar rule, is favoured."

KINDS = {
    kind.key: kind
    for kind in (
        Kind("failures"),
        Kind("csa_error", True, STYLE),
        Kind("csa_error_rms", True, STYLE),
        Kind("change_error", True, STYLE),
        Kind("bias"),
        Kind("dice", False, STYLE + " Dice hides a bias of the area."),
        Kind("nsd", False, STYLE),
        Kind("preference", False, "Raters see overlap, not a bias of a voxel."),
        Kind(
            "repeats",
            True,
            "Repeats measure precision, not truth: a method that is wrong the same way each time looks good, and "
            "smoothing methods are favoured.",
        ),
        Kind(
            "predicted_dice",
            False,
            "Predicted, not measured: the network that judges is deepseg's own, the image edges that it uses are what "
            "propseg follows, and on kinds of images that it was not fitted on its 90 % intervals cover 86 to 94 %.",
        ),
    )
}
"""Endpoint key to its kind, in the order in which endpoints are printed."""

IN_PERCENT = ("failures", "preference")
"""Endpoints that are shares: 0 to 1 in numbers, percent in texts."""


def ratio_margin(margin: float, sd_a: float, sd_b: float) -> float:
    """Return the log ratio of two SDs that differ by `margin` and have the geometric mean of `sd_a` and `sd_b`."""
    return 2 * asinh(margin / (2 * (sd_a * sd_b) ** 0.5))


def ratio_points(log_ratio: float, sd_a: float, sd_b: float) -> float:
    """Return a difference of SDs in percent from the logarithm of their ratio; the inverse of `ratio_margin`."""
    if not isfinite(log_ratio):
        return float("nan")
    half = min(30.0, abs(log_ratio) / 2)
    size = (sd_a * sd_b) ** 0.5 * (exp(half) - exp(-half))
    return size if log_ratio >= 0 else -size


def measured_with(m: int, pair: tuple[int, int] | None) -> tuple[int, ...]:
    """Return the methods that must all be known in a person for that person to count in the numbers of method `m`."""
    if pair is None:
        return (m,)
    return pair if m in pair else (pair[0], m)


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods by one endpoint; a positive estimate means that the first is better.

    Parameters
    ----------
    key : str
        One of `KINDS`.
    pair : (int, int)
        Numbers of the methods.
    estimate : float
        Advantage of the first method; for SDs the logarithm of their ratio.
    interval, interval95 : (float, float)
    margin : float
        On the estimate's scale.
    probability : (float, float, float)
        That the first is better by more than the margin, that neither is, that the second is.
    n : int
        People.
    means : (float, float)
        The endpoint's value by either method.
    n_sites : int
    by_contrast, by_site : dict of str to Comparison
    pseudo : (P,) ndarray
        The estimate as each person contributes to it; NaN for people without the endpoint. Empty where the estimate is
        not a mean over people.
    floor_sd : float
        Least SD between people that intervals assume.
    """

    key: str
    pair: tuple[int, int]
    estimate: float
    interval: tuple[float, float]
    interval95: tuple[float, float]
    margin: float
    probability: tuple[float, float, float]
    n: int
    means: tuple[float, float]
    n_sites: int = 1
    by_contrast: Mapping[str, Comparison] = field(default_factory=dict)
    by_site: Mapping[str, Comparison] = field(default_factory=dict)
    pseudo: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    floor_sd: float = 0.0

    @property
    def kind(self) -> Kind:
        """Kind of the endpoint."""
        return KINDS[self.key]

    def in_unit(self, value: float) -> float:
        """Convert a value on the estimate's scale to the endpoint's unit; for SDs to their difference."""
        return ratio_points(value, *self.means) if self.kind.is_ratio else value

    @property
    def winner(self) -> int | None:
        """Method that is better with a 90 % interval beyond the margin; None if neither is."""
        if self.interval[0] > self.margin:
            return self.pair[0]
        return self.pair[1] if self.interval[1] < -self.margin else None

    @property
    def is_within(self) -> bool:
        """Whether the 90 % interval lies within the margins."""
        return -self.margin < self.interval[0] and self.interval[1] < self.margin

    @property
    def leaning(self) -> int | None:
        """Method that is better by more than the margin, with a 90 % interval that excludes no difference; or None."""
        if self.estimate > self.margin and self.interval[0] > 0:
            return self.pair[0]
        return self.pair[1] if self.estimate < -self.margin and self.interval[1] < 0 else None

    def of(self, a: int) -> Comparison:
        """Return the comparison with method `a` of the pair first."""
        if self.pair[0] == a:
            return self
        (low, high), (low95, high95) = self.interval, self.interval95
        return replace(
            self,
            pair=self.pair[::-1],
            estimate=-self.estimate,
            interval=(-high, -low),
            interval95=(-high95, -low95),
            probability=self.probability[::-1],
            means=self.means[::-1],
            by_contrast={name: one.of(a) for name, one in self.by_contrast.items()},
            by_site={name: one.of(a) for name, one in self.by_site.items()},
            pseudo=-self.pseudo,
        )
