"""Check a study's configuration before anything runs; each mistake is one line that names the key."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.decision.params import params_from_config
from spineseg.errors import InputError
from spineseg.study.declared import check_declared, declared_methods
from spineseg.study.exceptions import check_exceptions
from spineseg.study.exclusion import read_exclusions
from spineseg.study.index import DEFAULT_SUFFIXES, index_images, list_subjects, reference_folder
from spineseg.study.sheet import read_sheet
from spineseg.study.spelling import closest

SCHEMA = Path(__file__).parent / "schemas" / "config.schema.yaml"


@cache
def load_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def read_configuration(path: str | Path) -> dict[str, Any]:
    """Read a YAML or JSON file, check it and fill in defaults.

    Raises
    ------
    InputError
        If it is missing, is no YAML, or does not fit the schema.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: no such configuration ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    return complete_configuration({} if content is None else content)


def complete_configuration(config: dict[str, Any], *, demo_dir: str | None = None) -> dict[str, Any]:
    """Check a configuration against the schema and return it with the defaults filled in.

    Parameters
    ----------
    config : dict
        As read from YAML. It is not changed.
    demo_dir : str, optional
        The dataset to take where the configuration names no source of images.

    Raises
    ------
    InputError
        For the first key, in the schema's order, that is unknown, missing or has a value of another kind.
    """
    if not isinstance(config, dict):
        raise InputError(f"configuration: expected keys and values, found {str(config)[:60]!r}")
    errors = sorted(Draft202012Validator(load_schema()).iter_errors(config), key=_importance)
    if errors:
        raise InputError(_explain(errors[0]))
    complete = _fill_defaults(config, load_schema())
    if demo_dir and not complete["bids_dir"] and not complete["images"]:
        complete["bids_dir"] = demo_dir
    return complete


def check_meaning(config: dict[str, Any]) -> None:
    """Check what a schema cannot and no image is needed for: contrasts, methods, exclusions, the decision's settings.

    Parameters
    ----------
    config : dict
        Complete configuration.

    Raises
    ------
    InputError
        In one line that names the key.
    """
    if config["bids_dir"] and config["images"]:
        raise InputError("config keys 'bids_dir' and 'images': expected one of them, found both; set one to null")
    _check_contrasts(config["contrasts"])
    check_declared(declared_methods(config), None)
    check_exceptions(config, None)
    _check_decision(config)
    read_exclusions(config["excluded"])


def check_sources(config: dict[str, Any]) -> None:
    """Check that the images, subjects and references that the configuration names are there.

    Parameters
    ----------
    config : dict
        Complete configuration.

    Raises
    ------
    InputError
        In one line that names the key, or the row of the table; also for what `check_meaning` finds.
    """
    check_meaning(config)
    subjects = _check_images(config)
    for key, names in (("subjects", config["subjects"]), ("pilot.subjects", config["pilot"]["subjects"])):
        for name in names if isinstance(names, list) else ():
            if name.removeprefix("sub-") not in subjects:
                hint = closest(name.removeprefix("sub-"), subjects)
                where = config["bids_dir"] or config["images"]
                raise InputError(f"config key '{key}': no subject {name!r} in {where}{hint}")
    methods = declared_methods(config)
    if config["exceptions"] or any(method.kind == "files" for method in methods.values()):
        rows = [row for row in index_images(config, chunk_size=1)[0] if row["included"] == "true"]
        check_declared(methods, rows)
        check_exceptions(config, [row["image_id"] for row in rows])


def _check_decision(config: dict[str, Any]) -> None:
    """Check the settings of the decision rule and that the methods they name are compared."""
    try:
        params = params_from_config(config["decision"])
    except InputError as error:
        raise InputError(f"config key {error}") from error
    for key, method in (
        ("decision.prefer", params.prefer),
        ("override.method", (config["override"] or {}).get("method")),
    ):
        if method is not None and method not in (names := declared_methods(config)):
            hint = closest(method, names) or f" ({', '.join(names)})"
            raise InputError(f"config key '{key}': expected one of methods, found {method!r}{hint}")


def _check_images(config: dict[str, Any]) -> set[str]:
    """Check the table or the folders of images; return the subjects there are."""
    if config["images"]:
        return {row["subject"] for row in read_sheet(config["images"])}
    if not config["bids_dir"]:
        raise InputError("config keys 'bids_dir' and 'images': expected one of them, found neither")
    root = Path(config["bids_dir"])
    if not root.is_dir():
        raise InputError(f"config key 'bids_dir': expected a folder, found none at {root}")
    subjects = set(list_subjects(root))
    if not subjects:
        raise InputError(f"config key 'bids_dir': expected folders named sub-*, found none in {root}")
    is_default = config["references"] == load_schema()["properties"]["references"]["default"]
    if config["references"] and not is_default and reference_folder(config) is None:
        raise InputError(
            f"config key 'references': expected a folder, found none at {root / config['references']}"
            f" nor at {config['references']}; null means that there are no manual masks"
        )
    return subjects


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
    """Sort a wrong key before wrong values, for the value may be missing because of the key."""
    order = list(load_schema()["properties"])
    first = str(error.absolute_path[0]) if error.absolute_path else ""
    return error.validator != "additionalProperties", order.index(first) if first in order else -1


def _explain(error: ValidationError) -> str:
    """Return one line: which key, what was expected, what was found."""
    key = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = next(name for name in error.instance if name not in known)
        full = f"{key}.{unknown}" if key else str(unknown)
        return f"config key {full!r}: no such key{closest(unknown, known)}; known: {', '.join(known)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"config key {f'{key}.{missing}' if key else missing!r} is missing"
    expected = error.schema.get("x-expected") or error.message
    found = "nothing" if error.instance is None else repr(error.instance)
    return f"config key {key!r}: expected {expected}; found {found[:200]}"  # a long list need not be seen whole


def _fill_defaults(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with missing keys set to the schema's defaults, in the schema's order."""
    complete = {}
    for key, part in schema["properties"].items():
        value = config.get(key, part.get("default"))
        complete[key] = _fill_defaults(value, part) if isinstance(value, dict) and "properties" in part else value
    return complete
