"""Read and write the files of a study. The error about a damaged file is one line that says what to do."""

from __future__ import annotations

import csv
import gzip
import io
import math
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from spineseg.errors import MACHINE_ADVICE, SHORTAGES, InputError, MachineError, SpinesegError, advise
from spineseg.reading import decode_text, read_json
from spineseg.writing import write_text

NOT_AVAILABLE = "n/a"
"""Text of a cell without a value in BIDS."""

MEND = "delete it and run the study again"
"""Advice that restores any file that a study has written."""

PLAIN = (bool, int, float, str, type(None))
"""Types of values that contain no other values."""

T = TypeVar("T")


def read_record(path: str | Path, parse: Callable[[dict[str, Any]], T], what: str, mend: str = MEND) -> T:
    """Read a JSON file and make a typed record of it.

    Parameters
    ----------
    path : path
    parse : callable
        Makes the record from the content; may raise KeyError, TypeError, ValueError or AttributeError if that does not
        fit.
    what : str
        What the file is, for the message.
    mend : str
        What to do if it is damaged, for the message.

    Raises
    ------
    InputError
        If the file is missing, is not JSON, or has other content than expected.
    """
    content = read_json(path, what, mend)
    try:
        record = parse(content)
        check_types(record)
        return record
    except KeyError as error:
        raise InputError(f"{path}: expected {what}, found no key {error}; {mend}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: expected {what}, found other content ({_one_line(error)}); {mend}") from error


def check_types(record: Any) -> None:
    """Raise TypeError for the first field of a dataclass whose value is not of the declared type."""
    for name, hint in _declared(type(record)).items():  # type: ignore[arg-type]  # mypy: a class is hashable
        value = getattr(record, name)
        if not _fits(value, hint):
            raise TypeError(f"{name}: {str(value)[:40]!r}")


@cache
def _declared(cls: type) -> dict[str, Any]:
    """Return the fields of a dataclass with their types; empty for another class."""
    hints = get_type_hints(cls) if is_dataclass(cls) else {}
    return {one.name: hints[one.name] for one in fields(cls)} if hints else {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a declared type: a tuple of one type, a mapping, a union, a record or a plain type."""
    if is_dataclass(hint) and isinstance(value, hint):  # type: ignore[arg-type]
        check_types(value)
        return True
    inside = get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in inside)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, inside[0]) for item in _examples(value))
    if inside:
        pairs = value.items() if isinstance(value, Mapping) else ()
        return isinstance(value, Mapping) and all(_fits(k, inside[0]) and _fits(v, inside[1]) for k, v in pairs)
    if isinstance(value, bool):  # an int for Python
        return hint in (bool, Any)
    return hint is Any or isinstance(value, int | float if hint is float else hint)


def _examples(values: tuple[Any, ...]) -> Iterable[Any]:
    """Return the values to check; there may be thousands of numbers and texts, so one of each type is enough."""
    plain = {type(item): item for item in values if isinstance(item, PLAIN)}
    return *plain.values(), *(item for item in values if not isinstance(item, PLAIN))


def listed(value: Any) -> tuple[Any, ...]:
    """Return a JSON list as a tuple; refuse text and mappings, which Python could iterate over as well."""
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {str(value)[:40]!r}")
    return tuple(value)


def _one_line(error: Exception) -> str:
    """Return an error's text as one line, shortened if it is long."""
    return " ".join(str(error).split())[:120]


def read_text_table(path: str | Path) -> str:
    """Return the text of a table, compressed (``.gz``) or not.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise _unread_table(path, error) from error
    return decode_text(raw, path, MEND)


def _unread_table(path: Path, error: Exception) -> SpinesegError:
    """Return the error about a table that could not be read; only a damaged table should be deleted."""
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        return InputError(f"{path.parent}: expected a folder of results, found none; check the path")
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such table; run the study again, which makes it")
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return MachineError(f"{path}: cannot be read ({error.strerror}); {advise(error)}")
    if isinstance(error, OSError) and error.errno in MACHINE_ADVICE:
        return InputError(f"{path}: expected a table, found what cannot be read ({error.strerror}); {advise(error)}")
    return InputError(f"{path}: not a whole table ({_one_line(error)}); {MEND}")


def iterate_table(path: str | Path, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells of every row of a tab-separated table; ``n/a`` becomes an empty string.

    Raises
    ------
    InputError
        If the table is missing or damaged, lacks a column of `needed`, or a row has too few or too many cells.
    """
    reader = csv.reader(io.StringIO(read_text_table(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        header = next(reader, None)
        if not header:
            raise InputError(f"{path}: expected a table with a heading, found an empty file; {MEND}")
        if missing := [name for name in needed if name not in header]:
            raise InputError(f"{path}: expected the column {missing[0]}, found {', '.join(header)}; {MEND}")
        for cells in reader:
            if len(cells) != len(header):
                where = f"{path}, line {reader.line_num}"
                raise InputError(f"{where}: expected {len(header)} cells, found {len(cells)}; {MEND}")
            yield reader.line_num, {k: "" if v == NOT_AVAILABLE else v for k, v in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a table ({_one_line(error)}); {MEND}") from error


def stream_table(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and some cells of every row of a tab-separated table, without keeping it all in memory.

    Raises
    ------
    InputError
        If the table is missing or damaged, lacks a column, or a row has too few or too many cells.
    """
    path = Path(path)
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as rows
        ):
            header = next(rows, "").rstrip("\n").split("\t")
            if missing := [name for name in columns if name not in header]:
                raise InputError(f"{path}: expected the column {missing[0]}, found {', '.join(header)}; {MEND}")
            places = [header.index(name) for name in columns]
            for number, line in enumerate(rows, start=2):
                cells = line.rstrip("\n").split("\t")
                if len(cells) != len(header):
                    found = f"expected {len(header)} cells, found {len(cells)}"
                    raise InputError(f"{path}, line {number}: {found}; {MEND}")
                yield number, [cells[place] for place in places]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise _unread_table(path, error) from error


def read_rows(path: str | Path, parse: Callable[[dict[str, str]], T], needed: Iterable[str]) -> list[T]:
    """Read a table as typed rows.

    Parameters
    ----------
    path : path
    parse : callable
        Makes a row from its cells; may raise ValueError.
    needed : iterable of str
        Columns that must be there.

    Raises
    ------
    InputError
        As in `iterate_table`; also for a cell that does not fit, with the number of its line.
    """
    rows = []
    for line, cells in iterate_table(path, needed):
        try:
            rows.append(parse(cells))
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {_one_line(error)}; {MEND}") from error
    return rows


def parse_bool(text: str) -> bool:
    """Read ``true`` or ``false``."""
    if text not in ("true", "false"):
        raise ValueError(f"expected true or false, found {text!r}")
    return text == "true"


def parse_numbers(cells: Mapping[str, str], names: Iterable[str]) -> dict[str, float]:
    """Read the cells of some columns as numbers; empty cells are left out."""
    values = {}
    for name in names:
        if text := cells.get(name):
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = math.nan
            if not math.isfinite(values[name]):  # unknown values are written as n/a, so nan and inf are damage too
                raise ValueError(f"column {name}: expected a number, found {text[:40]!r}")
    return values


def format_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Format rows as TSV, with ``n/a`` for missing values and six significant digits."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(format_cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def format_cell(value: Any) -> str:
    """Format one cell; tabs and line breaks are removed from text."""
    if isinstance(value, float):  # nearly all cells; numpy's float64 is a float too
        if not math.isfinite(value):
            return NOT_AVAILABLE
        return f"{round(float(value), 9) + 0.0:.6g}"  # rounding noise and -0 become 0, so that bytes are stable
    if value is None or value == "":
        return NOT_AVAILABLE
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text.isprintable() or all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text):
        return text  # blanks in a path must stay as they are
    return " ".join(text.split()).encode(errors="backslashreplace").decode()  # a file name may not be valid text


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table; one whose name ends in ``.gz`` is compressed. Equal rows give equal bytes."""
    write_text(path, format_table(columns, rows))
