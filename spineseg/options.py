"""Options of propseg and deepseg as a configuration gives them: the flags of the command line and their values."""

from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

from spineseg.errors import InputError

OWN_METHODS = ("propseg", "deepseg")


def params_class(method: str) -> type:
    """Return the parameter dataclass of a method, importing only that method."""
    if method == "propseg":
        from spineseg.propseg.segment import PropsegParams

        return PropsegParams
    if method == "deepseg":
        from spineseg.deepseg.segment import DeepsegParams

        return DeepsegParams
    raise InputError(f"method {method!r}: expected one of {', '.join(OWN_METHODS)}")


_SPELLINGS = {"d": "distance_weight"}
"""Flags of the command line that are not spelled like the parameter they set."""


def params_from_options(method: str, options: dict[str, Any]) -> Any:
    """Build a method's parameters from the flags of its command line, without the dash, and their values.

    Examples
    --------
    >>> params = params_from_options("propseg", {"max-area": 150, "CSF": True})
    >>> params.max_area_mm2, params.csf
    (150, True)

    Raises
    ------
    InputError
        If there is no such option, or its value is of another kind or out of range.
    """
    cls = params_class(method)
    kinds = get_type_hints(cls)
    known = {re.sub(r"_mm2?$", "", name): name for name in kinds if name != "byproducts"}
    values = {}
    for option, value in options.items():
        spelled = str(option).lstrip("-").lower().replace("-", "_")
        name = known.get(_SPELLINGS.get(spelled, re.sub(r"_mm2?$", "", spelled)))
        if name is None:
            raise InputError(f"{method} has no option {option!r}; expected one of {', '.join(sorted(known))}")
        allowed = get_args(kinds[name]) or (kinds[name],)
        # a whole number is a number; true is neither
        fits = isinstance(value, (*allowed, int) if float in allowed else allowed)
        if not fits or (isinstance(value, bool) and bool not in allowed):
            expected = " or ".join(kind.__name__.replace("NoneType", "null") for kind in allowed)
            raise InputError(f"{method} option {option!r}: expected {expected}, found {value!r}")
        values[name] = value
    return cls(**values)
