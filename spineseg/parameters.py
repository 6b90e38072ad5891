"""Parameters of a method as a dataclass, from which command-line flags, configuration options and ranges follow."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from spineseg.errors import InputError
from spineseg.spelling import closest

P = TypeVar("P")

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
"""Types of parameters in messages."""

LARGEST = 1e4
"""Largest length (mm), area (mm²), weight or count: a body has less, and far larger values overflow in arithmetic."""


@dataclass(frozen=True)
class Flag:
    """The command-line flag of a parameter, and the parameter's range.

    Parameters
    ----------
    name : str
        With its dash, such as ``-radius``; empty if only a configuration can set it.
    help : str
        Help text with unit and default.
    group : str
        Heading in the help.
    metavar : str
    least : float, optional
        Smallest allowed value.
    above : float, optional
        Values must be larger than this.
    most : float, optional
        Largest allowed value.
    choices : tuple of str
    is_switch : bool
        Whether the flag alone means true; otherwise it takes 0 or 1.
    """

    name: str
    help: str = ""
    group: str = ""
    metavar: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    is_switch: bool = False

    @property
    def expected(self) -> str:
        """The range in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.least is not None and self.most is not None:
            return f"a number between {self.least:g} and {self.most:g}"
        least = f"above {self.above:g}" if self.above is not None else f"{self.least or 0:g} or more"
        return f"{least}, at most {self.most or LARGEST:g}"

    def allows(self, value: Any) -> bool:
        """Whether a value is in the range; None always is."""
        if value is None or isinstance(value, bool):
            return True
        if self.choices:
            return value in self.choices
        if not isinstance(value, int | float):
            return True
        if not abs(value) <= max(LARGEST, self.most or 0):  # NaN too
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )


def parameter(default: Any, name: str, help: str = "", **more: Any) -> Any:
    """Return a field of a dataclass of parameters with its flag; see `Flag`."""
    return field(default=default, metadata={"flag": Flag(name, help, **more)})


def _flagged(cls: type) -> list[tuple[Field[Any], Flag]]:
    """Return the fields that a user can set."""
    return [(one, one.metadata["flag"]) for one in fields(cls) if "flag" in one.metadata]


def check_ranges(params: Any) -> None:
    """Raise InputError for the first parameter outside of its range."""
    for one, flag in _flagged(type(params)):
        value = getattr(params, one.name)
        if not flag.allows(value):
            name = flag.name or one.name
            raise InputError(f"{name}: expected {flag.expected}, found {value}")


def _kinds(cls: type, name: str) -> tuple[type, ...]:
    """Return the types that a field allows."""
    hint = get_type_hints(cls)[name]
    return get_args(hint) or (hint,)


def add_flags(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add the flags of a dataclass of parameters, group by group."""
    groups: dict[str, Any] = {}
    for one, flag in _flagged(cls):
        if not flag.name:
            continue
        group = groups.setdefault(flag.group, parser.add_argument_group(flag.group or None) if flag.group else parser)
        options: dict[str, Any] = {"dest": one.name, "help": flag.help}
        kinds = _kinds(cls, one.name)
        if flag.is_switch:
            options |= {"action": "store_true"}
        elif bool in kinds:
            options |= {"type": int, "choices": (0, 1), "metavar": "0|1"}
            options |= {"default": None if one.default is None else int(bool(one.default))}
        elif flag.choices:
            options |= {"choices": flag.choices, "default": one.default}
        else:
            options |= {"type": float if float in kinds else int, "default": one.default}
            options |= {"metavar": flag.metavar or None}
        group.add_argument(flag.name, **options)


def params_from_args(cls: type[P], args: argparse.Namespace, **more: Any) -> P:
    """Return the parameters from parsed flags.

    Raises
    ------
    InputError
        If a value is out of range.
    """
    values = {one.name: getattr(args, one.name) for one, flag in _flagged(cls) if flag.name}
    for name, value in values.items():
        if bool in _kinds(cls, name) and value is not None:
            values[name] = bool(value)
    return cls(**values, **more)


def params_from_options(cls: type[P], options: Mapping[str, Any]) -> P:
    """Return the parameters from options of a configuration: names of flags without the dash, and their values.

    Examples
    --------
    >>> from spineseg.propseg.parameters import PropsegParams
    >>> params = params_from_options(PropsegParams, {"max-area": 150, "CSF": True})
    >>> params.max_area_mm2, params.csf
    (150, True)

    Raises
    ------
    InputError
        If there is no such option, or its value is of another type or out of range.
    """
    known: dict[str, str] = {}
    for one, flag in _flagged(cls):
        known |= {_spelling(flag.name or one.name): one.name, _spelling(one.name): one.name}
    values = {}
    for option, value in options.items():
        name = known.get(_spelling(str(option)))
        if name is None:
            names = sorted((flag.name or one.name).lstrip("-") for one, flag in _flagged(cls))
            raise InputError(f"no such option {option!r}; expected one of {', '.join(names)}{closest(option, names)}")
        allowed = _kinds(cls, name)
        # an int is allowed for a float; a bool is allowed for neither
        fits = isinstance(value, (*allowed, int) if float in allowed else allowed)
        if not fits or (isinstance(value, bool) and bool not in allowed):
            expected = " or ".join(KINDS[kind] for kind in allowed)
            raise InputError(f"option {option!r}: expected {expected}, found {value!r}")
        values[name] = value
    return cls(**values)


def _spelling(name: str) -> str:
    """Return a name in the form for comparison: flags and fields differ in dashes and capitals."""
    return name.lstrip("-").lower().replace("-", "_")


def output_file(text: str) -> Path:
    """Read the name of a file to write from the command line.

    Raises
    ------
    InputError
        If it names a folder.
    """
    if text.endswith("/") or Path(text).is_dir():
        raise InputError(f"{text}: expected the name of a file, found a folder; add a name, or use -ofolder")
    return Path(text)
