"""The people of a dataset as described in its participants.tsv."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.reading import read_table
from spineseg.spelling import closest

PARTICIPANTS = "participants.tsv"
"""Name of the table, in the dataset's folder (BIDS)."""

SITE = "site"
"""Column of the site."""

ID = "participant_id"

NOT_KNOWN = ("", "n/a", "na", "nan")
"""Texts of unknown values in tables, in lower case."""

MAX_CONDITION = 10_000
"""Most characters of a condition."""

COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Participants:
    """Content of participants.tsv.

    Parameters
    ----------
    path : Path
    columns : tuple of str
        Names of the columns without participant_id.
    cells : mapping
        Subject, without ``sub-``, to column to text; an unknown value is an empty text.
    """

    path: Path
    columns: tuple[str, ...] = ()
    cells: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def sites(self) -> dict[str, str]:
        """Return subject to site, for those whose site is known."""
        return {subject: cells[SITE] for subject, cells in self.cells.items() if cells.get(SITE)}

    def check_column(self, name: str, where: str) -> None:
        """Refuse a column that the table lacks.

        Raises
        ------
        InputError
        """
        if not self.columns:
            nothing = f"{self.path} is missing or describes nobody"
            raise InputError(f"{where}: names the column {name!r}, and {nothing}")
        if name not in self.columns:
            hint = closest(name, self.columns)
            raise InputError(f"{where}: {self.path} has no column {name!r}{hint}; it has {', '.join(self.columns)}")

    def query(self, text: str, where: str) -> list[str]:
        """Return the subjects for whom a condition on the columns holds.

        A condition compares columns with values by ``== != < <= > >= in`` and joins comparisons by ``and``, ``or``,
        ``not`` and brackets, as in ``pathology == 'HC' and age >= 18``. Numbers are compared as numbers, texts only by
        ``==``, ``!=`` and ``in``. With an unknown value no comparison holds, and neither does its ``not``.

        Raises
        ------
        InputError
            If the condition has another form, names no column, or holds for nobody.
        """
        shown = text if len(text) <= 200 else f"{text[:200]}..."
        no_condition = f"{where}: {shown!r} is not a condition; write one such as \"pathology == 'HC'\""
        if len(text) > MAX_CONDITION:
            raise InputError(no_condition)
        try:
            tree = ast.parse(text, mode="eval").body
            for node in ast.walk(tree):
                if isinstance(node, ast.Name):
                    self.check_column(node.id, where)
                if isinstance(node, ast.Compare) and not any(isinstance(part, ast.Name) for part in ast.walk(node)):
                    raise InputError(
                        f"{where}: expected a column in each comparison, found {_shown(node)}; columns have no quotes"
                    )
            found = [subject for subject, cells in self.cells.items() if _holds(tree, cells, where) is True]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(no_condition) from error
        if not found:
            raise InputError(f"{where}: {shown!r} fits none of the {len(self.cells)} participants of {self.path}")
        return found


def read_participants(dataset: str | Path) -> Participants:
    """Read a dataset's participants.tsv; without the file there are no columns.

    Raises
    ------
    InputError
        If the table is damaged, has no participant_id, or names a participant twice.
    """
    path = Path(dataset) / PARTICIPANTS
    if not path.is_file():
        return Participants(path)
    cells: dict[str, Mapping[str, str]] = {}
    columns: tuple[str, ...] = ()
    for line, row in read_table(path, (ID,), what="a table of participants"):
        subject = row.pop(ID).removeprefix("sub-")
        columns = tuple(row)
        if not subject:
            raise InputError(f"{path}, line {line}: {ID} is empty; fill it in, or delete the line")
        if subject in cells:
            raise InputError(f"{path}, line {line}: participant {subject!r} is there twice; delete one")
        cells[subject] = {name: "" if cell.lower() in NOT_KNOWN else cell for name, cell in row.items()}
    return Participants(path, columns, cells)


def _holds(node: ast.expr, cells: Mapping[str, str], where: str) -> bool | None:
    """Whether a condition holds for one participant; None if that depends on an unknown value."""
    if isinstance(node, ast.BoolOp):
        return _join([_holds(part, cells, where) for part in node.values], every=isinstance(node.op, ast.And))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        holds = _holds(node.operand, cells, where)
        return None if holds is None else not holds
    if isinstance(node, ast.Compare):
        sides = [_value(side, cells, where) for side in (node.left, *node.comparators)]
        compared = zip(node.ops, sides, sides[1:], strict=False)
        return _join([_compare(comparison, left, right, where) for comparison, left, right in compared], every=True)
    raise InputError(f"{where}: expected comparisons such as age >= 18, found {_shown(node)}")


def _join(parts: list[bool | None], *, every: bool) -> bool | None:
    """Join by ``and`` (every) or ``or``; the result is unknown (None) only if the known parts do not decide it."""
    if (not every) in parts:
        return not every
    return None if None in parts else every


def _value(node: ast.expr, cells: Mapping[str, str], where: str) -> Any:
    """Return a column's text, or a value written in the condition."""
    if isinstance(node, ast.Name):
        return cells[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, cells, where) for item in node.elts]
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        value = None
    if isinstance(value, str | int | float):
        return value
    raise InputError(f"{where}: expected a column or a value, found {_shown(node)}")


def _shown(node: ast.expr) -> str:
    """Return a part of a condition in the form shown in a message."""
    return repr(ast.unparse(node)[:200])


def _compare(comparison: ast.cmpop, left: Any, right: Any, where: str) -> bool | None:
    """Compare a cell with a value, as numbers if both are numbers; None if one is unknown."""
    if isinstance(comparison, ast.In | ast.NotIn):
        return _is_in(left, right, where, wanted=isinstance(comparison, ast.In))
    if type(comparison) not in COMPARISONS:
        found = type(comparison).__name__.lower()
        raise InputError(f"{where}: expected one of == != < <= > >= in, found {found!r}")
    for side in (left, right):
        if isinstance(side, list):
            raise InputError(f"{where}: compares with the list {str(side)[:200]}; put a list to the right of in")
    if "" in (left, right):
        return None
    numbers = _number(left), _number(right)
    if None not in numbers:
        return bool(COMPARISONS[type(comparison)](*numbers))
    text = str(left if numbers[0] is None else right)
    if isinstance(left, int | float) or isinstance(right, int | float):
        number = left if isinstance(left, int | float) else right
        is_comma = _number(text.replace(",", ".", 1)) is not None
        advice = "write decimals with a point in participants.tsv" if is_comma else "put it in quotes"
        raise InputError(f"{where}: compares {text!r} with the number {number}; {advice}")
    if not isinstance(comparison, ast.Eq | ast.NotEq):
        raise InputError(f"{where}: {text!r} is not a number, so nothing is smaller or greater; compare it by == != in")
    return bool(COMPARISONS[type(comparison)](left, right))


def _is_in(left: Any, right: Any, where: str, *, wanted: bool) -> bool | None:
    """Whether a value is in a list (or, unless `wanted`, is not); None if it, or the item that decides, is unknown."""
    if not isinstance(right, list):
        raise InputError(f"{where}: expected a list after in, found {right!r}; write [{right!r}]")
    for item in (left, *right):
        if isinstance(item, list):
            raise InputError(f"{where}: expected values in a list, found the list {str(item)[:200]}")
    if left == "":
        return None
    same = [None if item == "" else _same(left, item) for item in right]
    found = _join(same, every=False)
    return None if found is None else found is wanted


def _same(left: Any, right: Any) -> bool:
    """Whether two values are the same number, or the same text."""
    numbers = _number(left), _number(right)
    return numbers[0] == numbers[1] if None not in numbers else str(left) == str(right)


def _number(value: Any) -> float | None:
    """Return a value as a number; None if it is not a number."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
