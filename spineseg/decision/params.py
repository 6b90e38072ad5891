"""Settings of the decision, fixed before the data are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from spineseg.errors import InputError
from spineseg.parameters import Flag, check_ranges, parameter

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
    training_subjects : tuple of str
        People on whom a method was trained; they never enter the decision.
    """

    primary: str = parameter("auto", "", choices=PRIMARY_CHOICES)
    prefer: str | None = parameter(None, "")
    training_subjects: tuple[str, ...] = parameter((), "")
    perturbations: int = parameter(0, "", least=0, most=20)
    """Off: three copies quadruple the pilot's segmentation, whole datasets are pilots by default, and nothing decides
    by them unless `primary` says so."""
    max_fail: float = parameter(0.20, "", least=0, most=1)
    """Share of failed images above which a method is dropped: one in five is more than a person corrects by hand."""
    coverage_limit: float = parameter(0.80, "", least=0, most=1)
    """A partial mask that covers less counts as failed: a fifth of the cord is about one and a half vertebrae."""
    min_participants: int = parameter(6, "", least=0, most=1_000_000)
    """Fewer never give a clear verdict: the exact two-sided Wilcoxon test of 5 cannot go below 0.0625."""
    min_references: int = parameter(5, "", least=0, most=1_000_000)
    """People with references from which on references decide instead of proxies."""
    min_repeats: int = parameter(6, "", least=0, most=1_000_000)
    """People with repeats or several contrasts from which on these decide: as `min_participants`."""
    min_agreement: float = parameter(0.90, "", least=0, most=1)
    """Mean Dice between two methods that "equivalent" needs where no reference decides: proxies do not see a mask
    that is too large or shifted, so methods count as equal only if their masks are. Above 0.9 the choice hardly
    matters."""
    max_area_gap: float = parameter(0.10, "", least=0, most=10)
    """Relative; where two methods' areas differ more, proxies cannot be clear: one mask is the wrong size and they do
    not see which. A voxel all round is about 0.2; the field's methods differ by up to 0.07."""
    min_probability: float = parameter(0.90, "", least=0, most=1)
    """Posterior probability that a verdict needs."""
    rope_dice: float = parameter(0.01, "", least=0, most=100)
    """Differences within count as none. Two drawings of one person differ by more than 0.01 Dice."""
    rope_nsd: float = parameter(0.02, "", least=0, most=100)
    """The same for the NSD, which spreads about twice as wide as Dice."""
    rope_predicted_dice: float = parameter(0.01, "", least=0, most=100)
    """As `rope_dice`, which it predicts."""
    systematic_predicted_dice: float = parameter(0.02, "", least=0, most=100)
    """SD of the part of a method's prediction error that all its masks share, which more participants do not average
    out; measured by `benchmarks/decision_validation.py`."""
    rope_scan_rescan_cov: float = parameter(0.5, "", least=0, most=100)
    """Percentage points; scanners alone give a CoV of 1 % (Lukas 2021)."""
    rope_inter_contrast_sd: float = parameter(1.0, "", least=0, most=100)
    """mm²; about 1.3 % of a healthy cord's area."""
    rope_perturb_csa_cv: float = parameter(0.5, "", least=0, most=100)
    """Percentage points, as `rope_scan_rescan_cov`."""
    rope_composite: float = parameter(0.2, "", least=0, most=100)
    """Score -1 to 1; one of five proxies moves it by 0.2, and one proxy alone shall not decide."""
    band_coverage: float = parameter(0.01, "", least=0, most=100)
    """Within it two coverages are equal: one slice of a hundred."""
    band_plausible: float = parameter(0.02, "", least=0, most=100)
    """Within it two shares of plausible slices are equal: one slice of fifty."""
    band_components: float = parameter(0.25, "", least=0, most=100)
    """Within it two mean numbers of components are equal: one extra piece in four images."""
    band_roughness: float = parameter(0.10, "", least=0, most=100)
    """Relative; within it two roughnesses are equal: a robust SD of 100 slices is known to about 10 %."""
    n_bootstrap: int = parameter(10_000, "", least=100, most=1_000_000)
    """Resamples of the bootstrap: its ends then move by less than 1 % of the interval's width."""
    n_posterior: int = parameter(50_000, "", least=100, most=10_000_000)
    """Draws from the posterior: a probability of 0.9 is then known to 0.0013."""
    prior_strength: float = parameter(0.5, "", least=0, most=1_000)
    """Weight of the pseudo-observation "no difference" (Benavoli 2014), half a participant."""
    power: float = parameter(0.80, "", least=0, most=1)
    """Chance of a verdict that the advised number of pilots gives."""
    max_pilots: int = parameter(200, "", least=0, most=100_000)
    """Largest number of pilots that is looked at; larger pilots are studies."""
    n_simulations: int = parameter(100, "", least=1, most=100_000)
    """Simulated pilots per size: a power of 0.8 is then known to 0.04."""
    seed: int = parameter(1, "", least=0, most=4_294_967_295)
    """Any fixed number; the same inputs give the same bytes."""

    def __post_init__(self) -> None:
        try:
            check_ranges(self)
        except InputError as error:
            raise InputError(f"decision.{error}") from error

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> DecisionParams:
        """Make the settings of the config's ``decision`` section, which fits `decision_schema`."""
        values: dict[str, Any] = {}
        for name, value in (section or {}).items():
            is_number = cls.__annotations__[name] == "float"
            values[name] = tuple(value) if isinstance(value, list) else float(value) if is_number else value
        return cls(**values)


def decision_schema() -> dict[str, Any]:
    """Return the JSON schema of the config's ``decision`` section: keys, kinds and ranges of `DecisionParams`."""
    properties: dict[str, Any] = {}
    for one in fields(DecisionParams):
        flag: Flag = one.metadata["flag"]
        kind = DecisionParams.__annotations__[one.name]
        if one.name == "training_subjects":
            properties[one.name] = {"type": "array", "items": {"type": "string"}, "x-expected": "a list of subjects"}
        elif flag.choices:
            properties[one.name] = {"enum": list(flag.choices), "x-expected": f"one of {', '.join(flag.choices)}"}
        elif kind.startswith("str"):
            properties[one.name] = {"type": ["string", "null"], "x-expected": "a method, or null"}
        else:
            whole = kind == "int"
            properties[one.name] = {
                "type": "integer" if whole else "number",
                "minimum": flag.least,
                "maximum": flag.most,
                "x-expected": f"{'a whole number' if whole else 'a number'} from {flag.least:g} to {flag.most:g}",
            }
    return {"type": "object", "additionalProperties": False, "properties": properties}
