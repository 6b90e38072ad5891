"""Settings of the decision, fixed before the data are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from spineseg.errors import InputError

PRIMARY_CHOICES = (
    *("auto", "dice", "nsd", "predicted_dice", "scan_rescan_cov", "inter_contrast_sd", "perturb_csa_cv", "composite"),
)


@dataclass(frozen=True)
class DecisionParams:
    """Settings of the decision rule; every default has its reason beside it.

    Parameters
    ----------
    primary : str
        Endpoint; ``"auto"`` takes the first that the data allow: references, then the
        Dice predicted from masks and images, then repeats, then contrasts, then the composite.
        "perturb_csa_cv" decides only where it is asked for.
    prefer : str, optional
        Method to take when the evidence does not tell the methods apart.
    perturbations : int
        Slightly changed copies of each image of the pilot on which every method runs again; 0 for none.
    one_method_for_all : bool
        Always true. Methods differ in CSA by several percent, so mixing them biases contrasts against each
        other; ``per_contrast`` of the decision tells how each contrast would be judged alone.
    training_subjects : tuple of str
        People on whom a method was trained; they never enter the decision.
    """

    primary: str = "auto"
    prefer: str | None = None
    one_method_for_all: bool = True
    training_subjects: tuple[str, ...] = ()
    perturbations: int = 0
    """Off: three copies quadruple the pilot's segmentation, whole datasets are pilots by default, and nothing decides
    by them unless `primary` says so."""
    max_fail: float = 0.20
    """Share of failed images above which a method is dropped: one in five is more than a person corrects by hand."""
    coverage_limit: float = 0.80
    """A partial mask that covers less counts as failed: a fifth of the cord is about one and a half vertebrae."""
    min_participants: int = 6
    """Fewer never give a clear verdict: the exact two-sided Wilcoxon test of 5 cannot go below 0.0625."""
    min_references: int = 5
    """People with references from which on references decide instead of proxies."""
    min_repeats: int = 6
    """People with repeats or several contrasts from which on these decide: as `min_participants`."""
    min_agreement: float = 0.90
    """Mean Dice between two methods that "equivalent" needs where no reference decides: proxies do not see a mask
    that is too large or shifted, so methods count as equal only if their masks are. Above 0.9 the choice hardly
    matters."""
    max_area_gap: float = 0.10
    """Relative; where two methods' areas differ more, proxies cannot be clear: one mask is the wrong size and they do
    not see which. A voxel all round is about 0.2; the field's methods differ by up to 0.07."""
    min_probability: float = 0.90
    """Posterior probability that a verdict needs."""
    rope_dice: float = 0.01
    """Differences within count as none. Two drawings of one person differ by more than 0.01 Dice."""
    rope_nsd: float = 0.02
    """The same for the NSD, which spreads about twice as wide as Dice."""
    rope_predicted_dice: float = 0.01
    """As `rope_dice`, which it predicts."""
    systematic_predicted_dice: float = 0.02
    """SD of the part of a method's prediction error that all its masks share, which more participants do not average
    out; measured by `benchmarks/decision_validation.py`."""
    rope_scan_rescan_cov: float = 0.5
    """Percentage points; scanners alone give a CoV of 1 % (Lukas 2021)."""
    rope_inter_contrast_sd: float = 1.0
    """mm²; about 1.3 % of a healthy cord's area."""
    rope_perturb_csa_cv: float = 0.5
    """Percentage points, as `rope_scan_rescan_cov`."""
    rope_composite: float = 0.2
    """Score -1 to 1; one of five proxies moves it by 0.2, and one proxy alone shall not decide."""
    band_coverage: float = 0.01
    """Within it two coverages are equal: one slice of a hundred."""
    band_plausible: float = 0.02
    """Within it two shares of plausible slices are equal: one slice of fifty."""
    band_components: float = 0.25
    """Within it two mean numbers of components are equal: one extra piece in four images."""
    band_roughness: float = 0.10
    """Relative; within it two roughnesses are equal: a robust SD of 100 slices is known to about 10 %."""
    n_bootstrap: int = 10_000
    """Resamples of the bootstrap: its ends then move by less than 1 % of the interval's width."""
    n_posterior: int = 50_000
    """Draws from the posterior: a probability of 0.9 is then known to 0.0013."""
    prior_strength: float = 0.5
    """Weight of the pseudo-observation "no difference" (Benavoli 2014), half a participant."""
    power: float = 0.80
    """Chance of a verdict that the advised number of pilots gives."""
    max_pilots: int = 200
    """Largest number of pilots that is looked at; larger pilots are studies."""
    n_simulations: int = 100
    """Simulated pilots per size: a power of 0.8 is then known to 0.04."""
    seed: int = 1
    """Any fixed number; the same inputs give the same bytes."""

    def __post_init__(self) -> None:
        if self.primary not in PRIMARY_CHOICES:
            raise InputError(f"decision.primary: expected one of {', '.join(PRIMARY_CHOICES)}, found {self.primary!r}")
        if not self.one_method_for_all:
            raise InputError(
                "decision.one_method_for_all: expected true, found false; a study keeps one method, so make one study "
                "per contrast (contrasts: [T2w] and so on) to choose for each"
            )
        for name in ("max_fail", "coverage_limit", "min_agreement", "min_probability", "power"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"decision.{name}: expected a number from 0 to 1, found {getattr(self, name)!r}")


def params_from_config(section: Mapping[str, Any] | None) -> DecisionParams:
    """Make the settings from the config's ``decision`` section.

    Parameters
    ----------
    section : mapping or None
        Keys are the names of `DecisionParams`.

    Returns
    -------
    DecisionParams

    Raises
    ------
    InputError
        If a key is unknown or a value is of another type than the default.
    """
    known = {field.name: field.default for field in fields(DecisionParams)}
    values = dict(section or {})
    if unknown := sorted(set(values) - set(known)):
        raise InputError(f"decision.{unknown[0]}: no such key; expected one of {', '.join(known)}")
    for name, value in values.items():
        values[name] = _checked(name, value, known[name])
    return DecisionParams(**values)


def _checked(name: str, value: Any, default: Any) -> Any:
    """Return the value in the default's type, or say what was expected."""
    if name == "prefer":
        good, value = value is None or isinstance(value, str), value
    elif isinstance(default, tuple):
        good, value = isinstance(value, list | tuple), tuple(str(v) for v in value) if value else ()
    elif isinstance(default, bool | str):
        good = isinstance(value, type(default))
    elif isinstance(default, int):
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        value = float(value) if good else value
    if not good:
        raise InputError(f"decision.{name}: expected a value like {default!r}, found {value!r}")
    return value
