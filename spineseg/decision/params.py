"""The plan of a decision: what a study measures and how methods are compared, fixed before looking at the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.parameters import Flag, check_ranges, parameter

AIMS = ("groups", "change", "absolute")
"""What a study compares: groups of people, scans of one person, or an area with a limit. A constant bias cancels in the
first two."""

ENDPOINTS = ("csa_error", "preference", "repeats", "change_error")
"""Endpoints that may rule: references, blind ratings of people, repeats, references of several sessions of a person."""

_OF_PEOPLE = ("csa_error", "preference", "repeats")

ORDER = {
    "groups": _OF_PEOPLE,
    "change": ("change_error", "repeats", "csa_error", "preference"),
    "absolute": _OF_PEOPLE,
}
"""Endpoints by aim, in the order in which they rule where the plan names none. An error that is the same at each scan
of a person cancels in a change, so for that aim precision within people comes first."""

OBSOLETE = {
    "primary": "the endpoints are tried in the order of decision.endpoints",
    "min_probability": "a verdict needs the 90 % interval beyond the margin",
    "min_agreement": "proxies no longer decide",
    "max_area_gap": "proxies no longer decide",
    "systematic_predicted_dice": "the predicted Dice never settles a choice",
    "n_bootstrap": "intervals are computed without resampling",
    "n_posterior": "probabilities are computed without resampling",
    "prior_strength": "probabilities are computed without a prior",
    **dict.fromkeys(
        (
            "rope_predicted_dice",
            "rope_scan_rescan_cov",
            "rope_inter_contrast_sd",
            "rope_perturb_csa_cv",
            "rope_composite",
        ),
        "margins of areas follow from decision.effect_pct",
    ),
    **dict.fromkeys(
        ("band_coverage", "band_plausible", "band_components", "band_roughness"), "the composite of proxies is gone"
    ),
}
"""Keys of earlier versions that no longer have a meaning, and why. They are accepted, and a note names them."""

RENAMED = {"rope_dice": "margin_dice", "rope_nsd": "margin_nsd"}
"""Keys that had another name in earlier versions: old name to new."""


@dataclass(frozen=True)
class Repeats:
    """Which images of a person repeat each other: the runs of a session, the named sessions, or both.

    Parameters
    ----------
    by_run : bool
    sessions : tuple of str
        Without ``ses-``.
    """

    by_run: bool = False
    sessions: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> Repeats:
        """Read ``{by: run}``, ``{sessions: [a, b]}`` or both."""
        section = section or {}
        sessions = tuple(name.removeprefix("ses-") for name in section.get("sessions", ()))
        return cls(section.get("by") == "run", sessions)

    @property
    def is_declared(self) -> bool:
        """Whether any images repeat each other."""
        return self.by_run or bool(self.sessions)


@dataclass(frozen=True)
class DecisionParams:
    """The plan and the settings of the rule; the reason for each default is below it.

    Parameters
    ----------
    aim : str
        One of `AIMS`.
    level : str, optional
        Level or range whose area the study reports, such as ``C2-C3``; if not given, the common stretch is compared.
    contrasts : mapping of str to float
        Weight of each contrast (or BIDS suffix). If there are none, all contrasts count, equally weighted.
    repeats : Repeats
    endpoints : tuple of str
        Endpoints in the order in which they rule. If empty, they are csa_error, preference, repeats; if the aim is
        change, change_error, repeats, csa_error, preference.
    by : str
        One method for the ``dataset``, or one for each ``contrast``.
    group : str, optional
        Column of participants.tsv with the groups that the study compares.
    site : str, optional
        Column of participants.tsv with the site or scanner.
    second_rater : str, optional
        A declared method whose masks a second person has drawn.
    prefer : str, optional
        Method to keep when the evidence does not distinguish the methods.
    training_subjects : tuple of str
        People on whom a method was trained; they never enter the decision.
    perturbations : int
        Number of slightly changed copies of each image of the pilot on which every method runs again.
    obsolete : tuple of str
        Keys of the configuration that no longer have a meaning.
    """

    aim: str = parameter("groups", "", choices=AIMS)
    effect_pct: float = parameter(5.0, "", least=0.1, most=100)
    """Difference in CSA that the study wants to detect, percent: about three years of atrophy in multiple sclerosis
    (1.78 % a year, Casserly 2018)."""
    level: str | None = None
    contrasts: Mapping[str, float] | None = None
    repeats: Repeats = Repeats()
    """No repeats by default: sessions are usually follow-up scans, and runs may show other parts of the body."""
    endpoints: tuple[str, ...] = ()
    by: str = parameter("dataset", "", choices=("dataset", "contrast"))
    group: str | None = parameter(None, "")
    site: str | None = parameter("site", "")
    second_rater: str | None = parameter(None, "")
    prefer: str | None = parameter(None, "")
    training_subjects: tuple[str, ...] = ()
    perturbations: int = parameter(0, "", least=0, most=20)
    """Off by default: three copies quadruple the pilot's segmentation, whole datasets are pilots by default, and no
    verdict depends on them."""
    max_fail: float = parameter(0.20, "", least=0, most=1)
    """Share of failures (of a person's images, averaged over people) above which a method is not kept: one in five is
    more than a person corrects by hand."""
    coverage_limit: float = parameter(0.80, "", least=0, most=1)
    """A mask that covers less of the slices on which any method found cord counts as failed: a fifth of the cord is
    about one and a half vertebrae."""
    margin_fail: float = parameter(0.05, "", least=0.001, most=1)
    """Difference in the share of failures that counts as none: one person in twenty."""
    margin_dice: float = parameter(0.01, "", least=0.0001, most=1)
    """Difference in Dice that counts as none: 0.01 is about 2 % of area. Two drawings of one person differ by more."""
    margin_nsd: float = parameter(0.02, "", least=0.0001, most=1)
    """The same for the NSD, which varies about twice as much as Dice."""
    margin_preference: float = parameter(0.10, "", least=0.001, most=1)
    """Net share of people in whom raters prefer one method that counts as none: one person in ten."""
    min_participants: int = parameter(6, "", least=2, most=1_000_000)
    """Fewer people never give a clear verdict: five of five preferences for one method have a two-sided p of 0.0625."""
    min_references: int = parameter(5, "", least=2, most=1_000_000)
    """Least number of people with references for these to rule; drawing takes ten minutes each."""
    min_repeats: int = parameter(6, "", least=2, most=1_000_000)
    """Least number of people with repeats, or with ratings, for these to rule: as `min_participants`."""
    power: float = parameter(0.80, "", least=0.01, most=0.99)
    """Chance of a verdict with the advised number of people; also the power for which the study's size is computed."""
    max_pilots: int = parameter(500, "", least=2, most=100_000)
    """Largest number of people that is simulated; a larger pilot is a study."""
    n_simulations: int = parameter(200, "", least=10, most=100_000)
    """Simulated pilots for each number of people: the standard error of a chance of 0.8 is then 0.03."""
    seed: int = parameter(1, "", least=0, most=4_294_967_295)
    """Any fixed number, so that the same inputs give the same bytes."""
    obsolete: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_ranges(self)
        except InputError as error:
            raise InputError(f"decision.{error}") from error
        if not self.endpoints:
            object.__setattr__(self, "endpoints", ORDER[self.aim])
        if len(set(self.endpoints)) < len(self.endpoints):
            raise InputError(f"decision.endpoints: expected each endpoint once, found {list(self.endpoints)}")
        known = dict.fromkeys([*SUFFIX_CONTRAST, *SUFFIX_CONTRAST.values()])
        for name in self.contrasts or ():
            if name not in known:
                raise InputError(f"decision.contrasts: expected some of {', '.join(known)}, found {name!r}")

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> DecisionParams:
        """Read the settings from the config's ``decision`` section, which must fit `decision_schema`."""
        values: dict[str, Any] = {}
        for key, value in (section or {}).items():
            name = RENAMED.get(key, key)
            if key in OBSOLETE:
                values["obsolete"] = (*values.get("obsolete", ()), key)
            elif name == "repeats":
                values[name] = Repeats.from_config(value)
            elif name == "contrasts":
                weights = value if isinstance(value, Mapping) else dict.fromkeys(value or (), 1.0)
                values[name] = {contrast: float(weight) for contrast, weight in weights.items()} or None
            else:
                is_number = cls.__annotations__[name] == "float"
                values[name] = tuple(value) if isinstance(value, list) else float(value) if is_number else value
        return cls(**values)

    @property
    def margin_csa_pct(self) -> float:
        """Difference in bias or in error SD of the area that counts as none: a quarter of the effect."""
        return self.effect_pct / 4

    def plans(self, suffix: str, contrast: str) -> bool:
        """Whether the analysis uses images of a suffix and contrast.

        In `contrasts`, ``T2w`` names only that suffix; ``t2`` names all images of that contrast.
        """
        return not self.contrasts or suffix in self.contrasts or contrast in self.contrasts

    def weight_of(self, contrast: str) -> float:
        """Weight of a contrast in the plan; 0 where the analysis does not use it."""
        if not self.contrasts:
            return 1.0
        return max(
            (w for name, w in self.contrasts.items() if SUFFIX_CONTRAST.get(name, name) == contrast), default=0.0
        )

    def plan(self) -> dict[str, Any]:
        """Return the settings that must be fixed before looking at the data, ready for JSON."""
        left_out = ("perturbations", "power", "max_pilots", "n_simulations", "seed", "obsolete")
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}
        repeats = {"by_run": self.repeats.by_run, "sessions": list(self.repeats.sessions)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return plain | {"repeats": repeats, "contrasts": dict(self.contrasts or {})}


def decision_schema() -> dict[str, Any]:
    """Return the JSON schema of the config's ``decision`` section: keys, kinds and ranges of `DecisionParams`."""
    names = {"type": "array", "items": {"type": "string"}}
    weights = {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}
    properties: dict[str, Any] = {
        "level": {"type": ["string", "null"], "x-expected": "a level or range such as C2-C3, or null"},
        "contrasts": {
            "oneOf": [{"type": "null"}, names | {"minItems": 1}, weights | {"minProperties": 1}],
            "x-expected": "contrasts, or contrasts with their weights such as {T2w: 2, T1w: 1}",
        },
        "repeats": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {
                "by": {"enum": ["run"], "x-expected": "run"},
                "sessions": names | {"minItems": 2, "x-expected": "a list of two sessions or more"},
            },
            "x-expected": "{by: run}, or {sessions: [one, two]}",
        },
        "endpoints": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"enum": list(ENDPOINTS), "x-expected": f"one of {', '.join(ENDPOINTS)}"},
            "x-expected": f"a list of {', '.join(ENDPOINTS)}",
        },
        "training_subjects": names | {"x-expected": "a list of subjects"},
    }
    for one in fields(DecisionParams):
        if "flag" in one.metadata:
            properties[one.name] = _schema_of(one.metadata["flag"], DecisionParams.__annotations__[one.name])
    properties |= {old: properties[new] for old, new in RENAMED.items()}
    properties |= {key: {"description": f"Of an earlier version: {why}."} for key, why in OBSOLETE.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema_of(flag: Flag, kind: str) -> dict[str, Any]:
    """Schema of one setting."""
    if flag.choices:
        return {"enum": list(flag.choices), "x-expected": f"one of {', '.join(flag.choices)}"}
    if kind.startswith("str"):
        return {"type": ["string", "null"], "x-expected": "a name, or null"}
    whole = kind == "int"
    return {
        "type": "integer" if whole else "number",
        "minimum": flag.least,
        "maximum": flag.most,
        "x-expected": (
            f"a whole number from {flag.least:.0f} to {flag.most:.0f}"
            if whole
            else f"a number from {flag.least:g} to {flag.most:g}"
        ),
    }
