"""Flags, options and ranges of a method follow from its dataclass of parameters."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spineseg.cli import build_parser, main
from spineseg.errors import InputError
from spineseg.methods.declared import DeclaredMethod
from spineseg.methods.registry import OWN_METHODS
from spineseg.parameters import add_flags, parameter, params_from_args, params_from_options

METHODS = {name: own.params_class() for name, own in OWN_METHODS.items()}
NOT_SETTABLE = {"byproducts"}
"""Files to write: flags of the command, not of the method."""

FIELDS = [(name, one) for name, cls in METHODS.items() for one in fields(cls) if one.name not in NOT_SETTABLE]
IDS = [f"{name}-{one.name}" for name, one in FIELDS]


def kinds(cls, name):
    hint = get_type_hints(cls)[name]
    return get_args(hint) or (hint,)


def another_value(cls, one):
    """A value in range that is not the default."""
    flag = one.metadata["flag"]
    if flag.choices:
        return next(choice for choice in flag.choices if choice != one.default)
    if bool in kinds(cls, one.name):
        return not one.default
    if flag.most is not None:
        return (flag.least + flag.most) / 3
    value = (one.default or 3) + 1
    return float(value) if float in kinds(cls, one.name) else value


@pytest.mark.parametrize(("method", "one"), FIELDS, ids=IDS)
def test_every_parameter_is_an_option_by_flag_and_by_name(method, one):
    cls = METHODS[method]
    value = another_value(cls, one)
    flag = one.metadata["flag"].name
    for spelling in {one.name, flag.lstrip("-") or one.name, one.name.upper()}:
        params = params_from_options(cls, {spelling: value})
        assert getattr(params, one.name) == value
        others = [other.name for other in fields(cls) if other.name != one.name]
        assert all(getattr(params, name) == getattr(cls(), name) for name in others)
        assert DeclaredMethod("x", method, options={spelling: value}).params() == params


@pytest.mark.parametrize(("method", "one"), FIELDS, ids=IDS)
def test_every_flag_gives_what_the_option_gives(method, one):
    cls = METHODS[method]
    flag = one.metadata["flag"]
    if not flag.name:
        pytest.skip("only a configuration can set it")
    value = another_value(cls, one)
    words = [flag.name] if flag.is_switch else [flag.name, str(int(value) if isinstance(value, bool) else value)]
    parser = build_parser(method)
    args = parser.parse_args(["-i", "x.nii", "-c", "t2", *words])
    assert params_from_args(cls, args) == params_from_options(cls, {flag.name.lstrip("-"): value})


@pytest.mark.parametrize("method", METHODS)
def test_help_lists_every_flag_once_and_defaults_agree(method):
    cls, parser = METHODS[method], build_parser(method)
    args = parser.parse_args(["-i", "x.nii", "-c", "t2"])
    assert params_from_args(cls, args) == cls() == params_from_options(cls, {})
    given_flags = [word for action in parser._actions for word in action.option_strings]
    assert len(given_flags) == len(set(given_flags))
    for one in fields(cls):
        if one.name in NOT_SETTABLE or not one.metadata["flag"].name:
            continue
        (action,) = [action for action in parser._actions if one.metadata["flag"].name in action.option_strings]
        assert parser.format_help().count(f"\n  {one.metadata['flag'].name} ") == 1
        # the default in the words is that of the dataclass
        if isinstance(one.default, int | float) and not isinstance(one.default, bool):
            assert f"default {one.default:g}" in action.help


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_but_files_has_a_flag_or_an_option(method):
    assert {one.name for one in fields(METHODS[method]) if "flag" not in one.metadata} <= NOT_SETTABLE


OUT = (float("nan"), float("inf"), float("-inf"), -1.0, -1)


@pytest.mark.parametrize("value", OUT)
@pytest.mark.parametrize(("method", "one"), FIELDS, ids=IDS)
def test_values_out_of_range_are_refused_in_one_line(method, one, value):
    cls = METHODS[method]
    with pytest.raises(InputError) as caught:
        params_from_options(cls, {one.name: value})
    assert "\n" not in str(caught.value)
    assert (one.metadata["flag"].name.lstrip("-") or one.name) in str(caught.value) or one.name in str(caught.value)


@pytest.mark.parametrize(("method", "one"), FIELDS, ids=IDS)
def test_the_ends_of_a_range_are_allowed(method, one):
    cls, flag = METHODS[method], one.metadata["flag"]
    whole = float not in kinds(cls, one.name)
    for end in (flag.least, flag.most):
        if end is not None:
            assert getattr(cls(**{one.name: int(end) if whole else end}), one.name) == end
    if flag.above is not None:
        with pytest.raises(InputError):
            cls(**{one.name: flag.above})


VALUES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none()),
)


@given(st.sampled_from(FIELDS), VALUES)
def test_any_value_is_accepted_or_refused_in_one_line(field, value):
    method, one = field
    try:
        params = params_from_options(METHODS[method], {one.name: value})
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        found = getattr(params, one.name)
        assert found == value
        assert found is None or isinstance(found, bool) == (bool in kinds(METHODS[method], one.name))
    assert "\n" not in refused


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_option_lists_the_known_ones(method):
    with pytest.raises(InputError, match=r"no such option 'nothing'; expected one of ") as caught:
        params_from_options(METHODS[method], {"nothing": 1})
    for one in fields(METHODS[method]):
        if one.name not in NOT_SETTABLE:
            assert (one.metadata["flag"].name.lstrip("-") or one.name) in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["propseg", "-alpha", "nan"], "-alpha: expected a finite number, found nan"),
        (["propseg", "-radius", "inf"], "-radius: expected a finite number, found inf"),
        (["propseg", "-d", "-1"], "-d: expected 0 or more, at most 10000, found -1"),
        (["propseg", "-down", "5", "-up", "2"], "-down: expected at most -up (2), found 5"),
        (["deepseg", "-thr", "nan"], "-thr: expected a finite number, found nan"),
        (["deepseg", "-thr", "1.5"], "-thr: expected a number between 0 and 1, found 1.5"),
    ],
)
def test_the_command_line_refuses_before_it_reads_an_image(argv, words, capsys):
    command, *flags = argv
    assert main([command, "-i", "no-such-image.nii", "-c", "t2", *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_dataclass_of_ones_own():
    @dataclass(frozen=True)
    class Params:
        size: float = parameter(1.0, "-size", "a size", group="sizes", above=0)
        fast: bool | None = parameter(None, "-fast", "fast")
        secret: int = parameter(3, "", least=1)

    Params.__annotations__ = {"size": float, "fast": bool | None, "secret": int}
    parser = argparse.ArgumentParser()
    add_flags(parser, Params)
    assert params_from_args(Params, parser.parse_args(["-size", "2", "-fast", "0"])) == Params(2.0, False, 3)
    assert params_from_options(Params, {"secret": 4}) == Params(secret=4)
    assert "secret" not in parser.format_help()
