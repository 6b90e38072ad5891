"""Reword argparse's messages on mistyped commands like all other errors: what was expected, what was found."""

from __future__ import annotations

import re
from collections.abc import Collection

from spineseg.spelling import closest

KINDS = {"int": "a whole number", "float": "a number"}


def reword(message: str) -> str:
    """Return argparse's message in our own words; an unknown message is returned unchanged.

    Examples
    --------
    >>> reword("argument -c: expected one argument")
    '-c: expected a value after it, found none'
    >>> reword("argument -radius: invalid float value: 'abc'")
    "-radius: expected a number, found 'abc'"
    >>> reword("argument {run,status}: invalid choice: 'Run' (choose from 'run', 'status')")
    "expected one of run, status; found 'Run'; did you mean 'run'?"
    >>> reword("unrecognized arguments: a.nii.gz b")
    "expected no word 'a.nii.gz'; give each file by its option, and put a path with spaces in quotes"
    """
    if message.startswith("unrecognized arguments: "):
        word = message.removeprefix("unrecognized arguments: ").split()[0]
        return f"expected no word {word!r}; give each file by its option, and put a path with spaces in quotes"
    if not (found := re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL)):
        return message
    name, rest = found.groups()
    prefix = "" if name.startswith("{") else f"{name}: "
    if rest in ("expected one argument", "expected at least one argument"):
        return f"{prefix}expected a value after it, found none"
    if wrong := re.fullmatch(r"invalid (int|float) value: (.*)", rest):
        return f"{prefix}expected {KINDS[wrong[1]]}, found {wrong[2]}"
    if wrong := re.fullmatch(r"invalid choice: (.*) \(choose from (.*)\)", rest):
        known = [choice.strip("'") for choice in wrong[2].split(", ")]
        hint = closest(wrong[1].strip("'"), known)
        return f"{prefix}expected one of {', '.join(known)}; found {wrong[1]}{hint}"
    return f"{prefix}{rest}"


def find_late_command(program: str, words: list[str], commands: Collection[str]) -> str:
    """Return advice if an option stands before the command; an empty string if none does.

    Examples
    --------
    >>> find_late_command("spineseg", ["-i", "t2.nii.gz", "propseg"], ["propseg"])
    'options follow the command: spineseg propseg -i ...'
    >>> find_late_command("spineseg", ["-h"], ["propseg"])
    ''
    """
    if not words or not words[0].startswith("-"):
        return ""
    late = next((word for word in words if word in commands), None)
    return f"options follow the command: {program} {late} {words[0]} ..." if late else ""
