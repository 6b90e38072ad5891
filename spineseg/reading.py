"""Read text, tables, JSON and YAML that people and programs wrote, completely, or refuse them in one line.

Text is UTF-8, with or without byte order mark, or UTF-16 with one; lines may end as on any system. Another encoding is
refused rather than guessed, because a wrong guess would change names silently.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spineseg.errors import MACHINE_ADVICE, SHORTAGES, InputError, MachineError, advise

MAX_TEXT_BYTES = 256 << 20
"""Largest text file: the table of a cohort of 100 000 images has a tenth of it."""

MAX_DIGITS = 300
"""Most digits of a whole number in JSON: a number with more does not fit in a float, though Python would read it."""

CHECK = "check the file"
"""Advice if nothing better is known."""

_BREAKS = re.compile("[\\t-\\r\\x1c-\\x1e\\x85\\u2028\\u2029]+")
"""Tabs and line breaks within a quoted cell, as spreadsheets write them; tables by spineseg have none."""

_CODES = re.compile("[\\x00-\\x08\\x0e-\\x1b\\x1f\\x7f-\\x84\\x86-\\x9f]")
"""Control characters other than white space, which a terminal would obey."""

SHOWN = 60
"""Most characters of a value in a message."""


def read_text(path: str | Path, what: str = "text", mend: str = CHECK) -> str:
    r"""Return the text of a file, lines ended by ``\n``.

    Parameters
    ----------
    path : str or Path
    what : str
        What the file is, for the message.
    mend : str
        What to do if it cannot be read, for the message.

    Raises
    ------
    InputError
        If the file is missing, not a regular file, too large, or not text (`decode_text`).
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no plain file"
            raise InputError(f"{path}: expected {what}, found {kind}; {mend}")
        if found.st_size > MAX_TEXT_BYTES:
            least, size = (n >> 20 for n in (MAX_TEXT_BYTES, found.st_size))
            raise InputError(f"{path}: expected {what} of at most {least} MiB, found {size} MiB; {mend}")
        raw = path.read_bytes()
    except OSError as error:
        if error.errno in SHORTAGES:
            raise MachineError(f"{path}: cannot be read ({error.strerror}); {advise(error)}") from error
        is_gone = isinstance(error, FileNotFoundError)
        todo = advise(error) if error.errno in MACHINE_ADVICE and not is_gone else mend
        raise InputError(f"{path}: expected {what}, found no file to read ({error.strerror}); {todo}") from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{path}: expected {what}, found no file name ({error}); {mend}") from error
    return decode_text(raw, path, mend)


def decode_text(raw: bytes, path: str | Path, mend: str = CHECK) -> str:
    r"""Return the text of the bytes of a file, lines ended by ``\n``.

    Raises
    ------
    InputError
        With the line, if the bytes are neither UTF-8 nor marked as UTF-16, or contain a NUL.
    """
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    advice = "save it as UTF-8" if mend == CHECK else mend
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_of(raw[: error.start].decode(encoding, "replace"))
        found = f"the byte 0x{raw[error.start]:02x}" if encoding == "utf-8-sig" else "damaged UTF-16"
        raise InputError(f"{path}, line {line}: expected text in UTF-8, found {found}; {advice}") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = _line_of(text[: text.index("\0")])
        raise InputError(f"{path}, line {line}: expected text in UTF-8, found a NUL byte; {advice}")
    return text


def _line_of(before: str) -> int:
    """Return the number of the last line of a text, from 1."""
    return before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


def read_table(
    path: str | Path, needed: Sequence[str], *, what: str = "a table"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells of every row of a table that people wrote.

    Blanks around a cell are removed, a line break within a cell becomes a blank, and empty rows are skipped.

    Parameters
    ----------
    path : str or Path
        Tab separated, or comma separated if its name ends in ``.csv``. Cells may be quoted as spreadsheets do.
    needed : sequence of str
        Columns that must exist.
    what : str
        What the table is, for the message.

    Raises
    ------
    InputError
        With the line, if a row has too few or too many cells, if a cell has no closing quote, is longer than 131 072
        characters or has a control code, or if a column is missing or is there twice.
    """
    path = Path(path)
    header: list[str] | None = None
    for line, cells in _read_cells(path, what):
        if header is None:
            header = cells
            _check_header(path, header, needed, what)
        elif len(cells) != len(header):
            raise InputError(
                f"{path}, line {line}: expected {len(header)} cells as in the heading, found "
                f"{len(cells)}; separate by one tab (.tsv) or comma (.csv), and write n/a where nothing is known"
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def read_heading(path: str | Path) -> list[str]:
    """Return the names in the first row of a table that `read_table` reads."""
    return next(cells for _, cells in _read_cells(Path(path), "a table"))


def _read_cells(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every row that is not empty; refuse a table without any."""
    text = read_text(path, what)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="," if path.suffix.lower() == ".csv" else "\t", strict=True
    )
    is_empty = True
    try:
        for row in reader:
            cells = [_BREAKS.sub(" ", cell.strip()) for cell in row]
            if odd := next((cell for cell in cells if _CODES.search(cell)), ""):
                raise InputError(
                    f"{path}, line {reader.line_num}: expected text, found a control character in {odd[:SHOWN]!r}; "
                    "delete it"
                )
            if any(cells):
                is_empty = False
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: a cell that cannot be read ({error}); check its quotes"
        ) from error
    if is_empty:
        raise InputError(f"{path}: expected {what} with a heading, found an empty file; fill it in, or leave it out")


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str], what: str) -> None:
    """Refuse a heading that lacks a needed column or has a column twice."""
    if missing := [name for name in needed if name not in header]:
        found = ", ".join(name[:SHOWN] for name in header[:20])
        joined = len(header) == 1 and missing[0] in header[0]
        mend = "separate the columns by tabs (.tsv) or commas (.csv)" if joined else "add or rename it"
        raise InputError(f"{path}: expected {what} with the column {missing[0]!r}, found {found}; {mend}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise InputError(f"{path}: the column {twice[0][:SHOWN]!r} occurs twice; delete one")


def read_json(path: str | Path, what: str, mend: str = CHECK) -> dict[str, Any]:
    """Return the keys and values of a JSON file.

    Raises
    ------
    InputError
        If it is missing, is not text, JSON or a mapping, has a key twice, or has a number that is not finite or too
        large for a float.
    """
    text = read_text(path, what, mend)
    try:
        content = json.loads(
            text, object_pairs_hook=_unique, parse_int=_whole_number, parse_float=_number, parse_constant=_number
        )
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected {what}, found no JSON ({' '.join(str(error).split())[:120]}); {mend}"
        ) from error
    if not isinstance(content, dict):
        found = "null" if content is None else type(content).__name__
        raise InputError(f"{path}: expected {what}, found JSON without keys ({found}); {mend}")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping; a key that is there twice is an error, because one of its values would be lost."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)[:SHOWN]!r} occurs twice")
    return content


def _whole_number(text: str) -> int:
    """Read a whole number that a float can hold."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    """Read a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:SHOWN]}")
    return value


def read_yaml(path: str | Path, what: str = "a YAML file") -> Any:
    """Read a YAML or JSON file; refuse a key that is there twice, because one of its values would be lost.

    Raises
    ------
    InputError
        If it is missing, or with the line if it is not text or YAML.
    """
    import yaml  # commands for single images do not need it

    class UniqueKeyLoader(yaml.SafeLoader):
        """A YAML reader that refuses a key that is there twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key_node, _ in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
                if key is not None and key in seen:
                    line = key_node.start_mark.line + 1
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key!r} occurs twice, again in line {line}"
                    )
                seen.add(key)
            return super().construct_mapping(node, deep)

    text = read_text(path, what)
    try:
        return yaml.load(text, UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or str(error) or "nested too deep"
        raise InputError(
            f"{where}: not {what} ({' '.join(str(problem).split())[:200]}); check indents, colons and quotes"
        ) from error
