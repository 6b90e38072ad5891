"""A study's configuration, checked and typed before anything runs. Each mistake gives one line with its key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.decision.params import OBSOLETE, RENAMED, DecisionParams, decision_schema
from spineseg.errors import InputError
from spineseg.levels.names import checked_requests
from spineseg.measures import PlausibleLimits
from spineseg.methods.declared import MANUAL, DeclaredMethod, declared_methods, manual_masks
from spineseg.spelling import closest
from spineseg.study.choices import USE, AcceptChanges, PersonsChoice, PilotChoice
from spineseg.study.configfiles import check_paths, place_key, read_keys
from spineseg.study.exclusion import Exclusions, read_exclusions
from spineseg.study.references import TRUE_KINDS
from spineseg.studyfolder import csa
from spineseg.studyfolder.marks import Marks, read_marks

SCHEMA = Path(__file__).parent / "schemas" / "config.schema.yaml"

DEFAULT_SUFFIXES = ("T1w", "T2w", "T2star", "dwi")
"""Suffixes that a study segments by default: anatomical images and diffusion, not fMRI."""

SAME_SUFFIX = {"T2star": "T2starw", "T2starw": "T2star"}
"""Two spellings of one suffix in different BIDS versions: a request for one includes the other."""

Document = dict[str, Any]
"""A configuration in the types of JSON."""


@dataclass(frozen=True)
class StudyConfig:
    """One study; every key is explained in config/README.md.

    Parameters
    ----------
    document : dict
        The whole configuration with its defaults, as in ``study.json``.
    """

    dataset: str
    bids_dir: str | None
    images: str | None
    references: str | None
    reference_kinds: tuple[str, ...]
    reference_label: int | None
    manual: str
    subjects: tuple[str, ...] | None
    subject_query: str
    excluded: Exclusions
    marks: Marks
    suffixes: frozenset[str]
    contrasts: Mapping[str, str]
    methods: Mapping[str, DeclaredMethod]
    pilot: PilotChoice
    decision: DecisionParams
    plausible: PlausibleLimits | None
    levels: tuple[str, ...]
    level_labels: str | None
    level_marks: tuple[str, ...]
    follow_up: tuple[str, ...]
    columns: tuple[str, ...]
    forms: tuple[str, ...] | None
    override: PersonsChoice | None
    exceptions: Mapping[str, PersonsChoice]
    accept_changes: AcceptChanges | None
    max_failed: float | None
    document: Document = field(repr=False)

    @property
    def source(self) -> str:
        """Source of the images."""
        return str(self.images or self.bids_dir)

    @property
    def reference_folder(self) -> Path | None:
        """The folder of manual masks, inside the dataset or elsewhere; None if there is none."""
        if not self.references or self.images or not self.bids_dir:
            return None
        inside = Path(self.bids_dir) / self.references
        return next((folder for folder in (inside, Path(self.references)) if folder.is_dir()), None)

    def method_named(self, name: str) -> DeclaredMethod:
        """Return a method of the configuration, or the one that provides the dataset's manual masks."""
        return self.methods[name] if name in self.methods else manual_masks(self.reference_label)

    @property
    def is_default_references(self) -> bool:
        """Whether the folder of manual masks is the default one, which may be missing."""
        return bool(self.references == _default("references"))


@cache
def load_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # takes a tenth of the time; each step of a study loads it
    schema = yaml.load(SCHEMA.read_text(encoding="utf-8"), fast)
    schema["properties"]["decision"] |= decision_schema()
    return schema


def read_document(path: str | Path) -> Document:
    """Read a YAML or JSON file as `complete_document` returns it.

    Raises
    ------
    InputError
        If it is missing, is not YAML, or does not fit the schema.
    """
    return complete_document(read_keys(path))


def read_configuration(path: str | Path) -> StudyConfig:
    """Read a YAML or JSON file, check it and fill in defaults.

    Raises
    ------
    InputError
        If it is missing, is not YAML, does not fit the schema, or has values that contradict each other.
    """
    return make_configuration(read_document(path))


def reference_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return folder, kinds and label of the references in a complete configuration."""
    given = document["references"]
    settings = {"folder": _default("references"), "kinds": TRUE_KINDS, "label": None}
    return settings | (given if isinstance(given, dict) else {"folder": given})


def make_configuration(document: Mapping[str, Any], *, demo_dir: str | None = None) -> StudyConfig:
    """Check a configuration, fill in its defaults and convert it to types. It does not look at images.

    Parameters
    ----------
    document : mapping
        As read from YAML. It is not changed.
    demo_dir : str, optional
        The dataset to use if the configuration names no source of images.

    Raises
    ------
    InputError
        In one line that names the key.
    """
    complete = complete_document(document)
    check_paths(complete)
    if demo_dir and not complete["bids_dir"] and not complete["images"]:
        complete["bids_dir"] = demo_dir
    if complete["bids_dir"] and complete["images"]:
        raise InputError("config keys 'bids_dir' and 'images': expected one of them, found both; set one to null")
    _check_contrasts(complete["contrasts"])
    _check_columns(complete["columns"])
    suffixes, contrasts = contrasts_asked_for(complete["contrasts"])
    methods = declared_methods(complete["methods"], [root for root in (complete["bids_dir"], ".") if root])
    if complete["manual"] == USE and MANUAL in methods:
        raise InputError(f"config key 'methods': a method is named {MANUAL}, as are masks by manual: use; rename it")
    choices = {"override": complete["override"]} if complete["override"] else {}
    choices |= {f"exceptions.{image}": choice for image, choice in complete["exceptions"].items()}
    for key, choice in choices.items():
        _check_method(f"{key}.method", choice["method"], methods)
    for key in ("prefer", "second_rater"):
        if complete["decision"].get(key) is not None:
            _check_method(f"decision.{key}", complete["decision"][key], methods)
    try:
        decision = DecisionParams.from_config(complete["decision"])
        checked_requests([decision.level] if decision.level else [], "decision.level")
        limits = None if complete["plausible"] is None else PlausibleLimits.from_config(complete["plausible"])
    except InputError as error:  # it begins with the key
        key, _, rest = str(error).partition(":")
        raise InputError(f"config key {key!r}:{rest}") from error
    people, clicked, forms = complete["subjects"], complete["level_marks"], complete["forms"]
    references = reference_settings(complete)
    return StudyConfig(
        dataset=complete["dataset"],
        bids_dir=complete["bids_dir"],
        images=complete["images"],
        references=references["folder"],
        reference_kinds=tuple(references["kinds"]),
        reference_label=references["label"],
        manual=complete["manual"],
        subjects=_plain_names(people) if isinstance(people, list) else None,
        subject_query=people["participants"] if isinstance(people, dict) else "",
        excluded=read_exclusions(complete["excluded"]),
        marks=read_marks_of(complete["marks"]),
        suffixes=suffixes,
        contrasts=contrasts,
        methods=methods,
        pilot=_pilot_choice(complete["pilot"]),
        decision=decision,
        plausible=limits,
        levels=checked_requests(complete["levels"], "config key 'levels'"),
        level_labels=complete["level_labels"],
        follow_up=tuple(name.removeprefix("ses-") for name in complete["follow_up"]),
        level_marks=tuple([clicked] if isinstance(clicked, str) else clicked or ()),
        columns=tuple(complete["columns"]),
        forms={"one": (), "all": None}[forms] if isinstance(forms, str) else tuple(forms),
        override=PersonsChoice(**complete["override"]) if complete["override"] else None,
        exceptions={image: PersonsChoice(**choice) for image, choice in complete["exceptions"].items()},
        accept_changes=AcceptChanges(**complete["accept_changes"]) if complete["accept_changes"] else None,
        max_failed=complete["max_failed"],
        document=complete,
    )


def _pilot_choice(pilot: Document) -> PilotChoice:
    """Convert the config key ``pilot``."""
    who, strata = pilot["subjects"], tuple(pilot.get("strata", ()))
    if isinstance(who, dict):
        return PilotChoice(n=who["n"], seed=who.get("seed", 1), strata=strata)
    return PilotChoice(_plain_names(who) if isinstance(who, list) else None, strata=strata)


def complete_document(config: Mapping[str, Any]) -> Document:
    """Check a configuration against the schema and return it with the defaults filled in, in the schema's order.

    Raises
    ------
    InputError
        For the first key, in the schema's order, that is unknown, is missing or has a value of another type.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"configuration: expected keys and values, found {str(config)[:60]!r}")
    try:
        plain = _plain(config, "", count())
    except RecursionError as error:  # a YAML anchor that contains itself
        raise InputError("configuration: expected values, found one that holds itself; write it out") from error
    errors = sorted(_Validator(load_schema()).iter_errors(plain), key=_importance)
    if errors:
        raise InputError(_explain(errors[0]))
    return _fill_defaults(plain, load_schema())


def contrasts_asked_for(contrasts: list[str] | dict[str, str]) -> tuple[frozenset[str], dict[str, str]]:
    """Return the suffixes to segment, and the contrast of suffixes or images that do not have the default one.

    Examples
    --------
    >>> suffixes, overrides = contrasts_asked_for({"T2star": "t2s", "sub-01_T2star": "t2"})
    >>> sorted(suffixes), overrides["sub-01_T2star"]
    (['T2star', 'T2starw'], 't2')
    """
    overrides = dict(contrasts) if isinstance(contrasts, dict) else {}
    suffixes = {key for key in contrasts if not key.startswith("sub-")} or set(DEFAULT_SUFFIXES)
    for suffix, twin in SAME_SUFFIX.items():
        if suffix in suffixes and twin not in suffixes:
            suffixes = suffixes | {twin}
            overrides |= {twin: overrides[suffix]} if suffix in overrides else {}
    return frozenset(suffixes), overrides


_Validator = extend(
    Draft202012Validator,
    # 2.0 is a float in Python, so it is not accepted as a whole number
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda checker, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


MAX_VALUES = 1_000_000
"""Most values in a configuration. A list of all participants of the largest cohort has a tenth of it; only YAML's
aliases can make more."""


def _plain(value: Any, key: str, number: Iterator[int]) -> Any:
    """Return a value in the types of JSON; refuse what only YAML has: dates, infinity and keys that are numbers."""
    if next(number) > MAX_VALUES:
        raise InputError(f"config key {key!r}: expected at most {MAX_VALUES} values, found more; check its aliases")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                where = f"config key {key!r}" if key else "configuration"
                raise InputError(f"{where}: expected names as keys, found {name!r}; put it in quotes")
        return {name: _plain(item, f"{key}.{name}" if key else name, number) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{key}.{position}", number) for position, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"config key {key!r}: expected a finite number, found {value}")
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(f"config key {key!r}: expected text or a number, found {str(value)!r}; put it in quotes")


def _default(key: str) -> Any:
    """Return the default of a key."""
    return load_schema()["properties"][key]["default"]


def read_marks_of(files: str | list[str] | None) -> Marks:
    """Read the marks of all raters from the files of the config key ``marks``.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    try:
        return read_marks([files] if isinstance(files, str) else files or [])
    except InputError as error:
        raise InputError(f"config key 'marks': {error}") from error


def _plain_names(names: list[str]) -> tuple[str, ...]:
    """Return subjects without ``sub-``."""
    return tuple(name.removeprefix("sub-") for name in names)


def _check_method(key: str, method: str, methods: Mapping[str, DeclaredMethod]) -> None:
    """Refuse the name of a method that is not compared."""
    if method not in methods:
        hint = closest(method, methods) or f" ({', '.join(methods)})"
        raise InputError(f"config key '{key}': expected one of methods, found {method!r}{hint}")


def _check_columns(columns: list[str]) -> None:
    """Refuse columns of participants.tsv that have the name of a column of measures."""
    for name in columns:
        if name in csa.COLUMNS:
            raise InputError(
                f"config key 'columns': csa.tsv already has a column {name!r}; rename that of participants.tsv"
            )


def _check_contrasts(contrasts: list[str] | dict[str, str]) -> None:
    """Check suffixes and contrasts."""
    if isinstance(contrasts, dict):
        for key, value in contrasts.items():
            if value not in CONTRASTS:
                raise InputError(
                    f"config key 'contrasts.{key}': unknown contrast {value!r}{closest(value, CONTRASTS)};"
                    f" expected one of {', '.join(CONTRASTS)}"
                )
        return
    by_contrast = {
        contrast: next(s for s in DEFAULT_SUFFIXES if SUFFIX_CONTRAST[s] == contrast) for contrast in CONTRASTS
    }
    for suffix in contrasts:
        if suffix not in SUFFIX_CONTRAST:
            meant = by_contrast.get(suffix.lower())
            hint = f"; did you mean {meant!r}?" if meant else closest(suffix, SUFFIX_CONTRAST)
            raise InputError(
                f"config key 'contrasts': unknown contrast {suffix!r}{hint};"
                f" expected BIDS suffixes among {', '.join(SUFFIX_CONTRAST)}"
            )


def _importance(error: ValidationError) -> tuple[bool, int]:
    """Return a sort key: wrong keys before wrong values, because a value may be missing due to a wrong key."""
    order = list(load_schema()["properties"])
    first = str(error.absolute_path[0]) if error.absolute_path else ""
    return error.validator != "additionalProperties", order.index(first) if first in order else -1


def _explain(error: ValidationError) -> str:
    """Return one line: which key, what was expected, what was found."""
    key = ".".join(str(part) for part in error.absolute_path)
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        former = {*OBSOLETE, *RENAMED} if key == "decision" else set()  # still read, but not advised
        known = [name for name in schema["properties"] if name not in former]
        unknown = next(name for name in instance if name not in schema["properties"])
        full = f"{key}.{unknown}" if key else str(unknown)
        hint = closest(unknown, known) + place_key(unknown, key, load_schema())
        return f"config key {full!r}: no such key{hint}; known: {', '.join(known)}"
    if error.validator == "required":
        missing = next(name for name in schema["required"] if name not in instance)
        return f"config key {f'{key}.{missing}' if key else missing!r} is missing"
    expected = schema.get("x-expected") or error.message
    found = "nothing" if instance is None else repr(instance)
    return f"config key {key!r}: expected {expected}; found {found[:200]}"  # only the start of a long list


def _fill_defaults(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Document:
    """Return the configuration with missing keys set to the schema's defaults, in the schema's order."""
    complete = {}
    for key, part in schema["properties"].items():
        if key not in config and "default" not in part:
            continue
        value = config.get(key, part.get("default"))
        complete[key] = _fill_defaults(value, part) if isinstance(value, dict) and "properties" in part else value
    return complete
