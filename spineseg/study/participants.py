"""The people of a dataset, as its participants.tsv describes them."""

from __future__ import annotations

import ast
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

NOT_KNOWN = ("", "n/a")

COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


@dataclass(frozen=True)
class Participants:
    """What participants.tsv says of each subject.

    Parameters
    ----------
    path : Path
    columns : tuple of str
        Without participant_id.
    cells : mapping
        Subject, without ``sub-``, to column to text; a value that is not known is an empty text.
    """

    path: Path
    columns: tuple[str, ...] = ()
    cells: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def sites(self) -> dict[str, str]:
        """Return subject to site, for those whose site is known."""
        return {subject: cells[SITE] for subject, cells in self.cells.items() if cells.get(SITE)}

    def check_column(self, name: str, where: str) -> None:
        """Refuse a column that the table has not.

        Raises
        ------
        InputError
        """
        if name not in self.columns:
            hint = closest(name, self.columns)
            raise InputError(f"{where}: {self.path} has no column {name!r}{hint}; it has {', '.join(self.columns)}")

    def query(self, text: str, where: str) -> list[str]:
        """Return the subjects for whom a condition on the columns holds.

        A condition compares columns with values by ``== != < <= > >= in`` and joins comparisons by ``and``, ``or``,
        ``not`` and brackets, as in ``pathology == 'HC' and age >= 18``. A value that is not known fits no comparison.

        Raises
        ------
        InputError
            If the condition says something else, names no column, or fits nobody.
        """
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(f"{where}: {text!r} is no condition; write one such as \"pathology == 'HC'\"") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                self.check_column(node.id, where)
        found = [subject for subject, cells in self.cells.items() if _holds(tree, cells, where)]
        if not found:
            raise InputError(f"{where}: {text!r} fits none of the {len(self.cells)} participants of {self.path}")
        return found


def read_participants(dataset: str | Path) -> Participants:
    """Read a dataset's participants.tsv; one without it has no columns.

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
        if subject in cells:
            raise InputError(f"{path}, line {line}: participant {subject!r} stands twice; delete one")
        cells[subject] = {name: "" if cell in NOT_KNOWN else cell for name, cell in row.items()}
    return Participants(path, columns, cells)


def _holds(node: ast.expr, cells: Mapping[str, str], where: str) -> bool:
    """Whether a condition holds for one participant."""
    if isinstance(node, ast.BoolOp):
        parts = [_holds(part, cells, where) for part in node.values]
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _holds(node.operand, cells, where)
    if isinstance(node, ast.Compare):
        sides = [_value(side, cells, where) for side in (node.left, *node.comparators)]
        return all(
            _compare(comparison, left, right, where)
            for comparison, left, right in zip(node.ops, sides, sides[1:], strict=False)
        )
    raise InputError(f"{where}: expected comparisons such as age >= 18, found {ast.unparse(node)!r}")


def _value(node: ast.expr, cells: Mapping[str, str], where: str) -> Any:
    """Return a column's text, or a value that stands in the condition."""
    if isinstance(node, ast.Name):
        return cells[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, cells, where) for item in node.elts]
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if isinstance(value, str | int | float):
        return value
    raise InputError(f"{where}: expected a column or a value, found {ast.unparse(node)!r}")


def _compare(comparison: ast.cmpop, left: Any, right: Any, where: str) -> bool:
    """Compare a cell with a value: as numbers where the value is one; what is not known fits nothing."""
    if type(comparison) not in COMPARISONS:
        found = type(comparison).__name__.lower()
        raise InputError(f"{where}: expected one of == != < <= > >= in, found {found!r}")
    if "" in (left, right):
        return False
    if isinstance(right, list):
        return COMPARISONS[type(comparison)](str(left), [str(item) for item in right])
    if isinstance(left, int | float) != isinstance(right, int | float):
        text, number = (right, left) if isinstance(left, int | float) else (left, right)
        try:
            text = float(text)
        except ValueError as error:
            raise InputError(f"{where}: compares {text!r} with the number {number}; put it in quotes") from error
        left, right = (number, text) if isinstance(left, int | float) else (text, number)
    return bool(COMPARISONS[type(comparison)](left, right))
