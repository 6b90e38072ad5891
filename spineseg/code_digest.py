"""Compute a digest of the code that computes a result. Changes of comments or of other steps do not change it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from spineseg.errors import OutputError
from spineseg.writing import write_text

PACKAGE = Path(__file__).parent

Outline = tuple[str, list[str]]
"""Digest of a module without comments and docstrings, and the modules and names of the package that it imports."""


@cache
def digest_code(*roots: str) -> str:
    """Return the SHA-256 of modules and of all modules of the package that they import, at any depth.

    Parameters
    ----------
    *roots : str
        Names of modules, such as ``spineseg.propseg.segment``; or of files of the package by a path from its
        folder, such as ``report/templates/qc.css``, where a step depends on them.

    Returns
    -------
    digest : str
        Hexadecimal. Comments, docstrings, layout and imports for type checking do not count. It is the same with every
        version of Python.

    Examples
    --------
    >>> digest_code("spineseg.errors") == digest_code("spineseg.errors", "spineseg.errors")
    True
    """
    outlines = read_outlines()
    waiting = [root for root in roots if "/" not in root]
    if unknown := [root for root in waiting if root not in outlines]:
        raise KeyError(unknown[0])  # otherwise a misspelt name would silently add nothing
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in needed or name not in outlines:
            continue
        needed.add(name)
        waiting += outlines[name][1]
        waiting.append(name.rpartition(".")[0])  # importing a module runs its packages first
    files = {path: hashlib.sha256((PACKAGE / path).read_bytes()).hexdigest() for path in roots if "/" in path}
    parts = {name: outlines[name][0] for name in needed} | files
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def read_outlines() -> dict[str, Outline]:
    """Return the outline of every module of the package, from the cache if the sources have not changed."""
    sources = {_module_name(path): path.read_bytes() for path in sorted(PACKAGE.rglob("*.py"))}
    raw = hashlib.sha256()
    for name, source in sources.items():
        raw.update(f"{name}\0{len(source)}\0".encode() + source)
    # one file for each checkout, valid as long as its sources do not change
    stored = _cache_folder() / f"code-{hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):  # damaged: rebuilt
        content = json.loads(stored.read_text())
        if content["sources"] == raw.hexdigest():
            return {name: (digest, imports) for name, (digest, imports) in content["outlines"].items()}
    outlines = {name: _outline(source) for name, source in sources.items()}
    with suppress(OutputError, OSError):  # parsing takes 0.3 s, more than half of a command's start-up
        write_text(stored, json.dumps({"sources": raw.hexdigest(), "outlines": outlines}))
    return outlines


def _cache_folder() -> Path:
    """Return the user's cache folder."""
    home = os.path.expanduser("~")  # noqa: PTH111  raises nothing if there is no home
    return Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "spineseg"


def _module_name(path: Path) -> str:
    """Return the dotted name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _outline(source: bytes) -> Outline:
    """Return the digest of a module's code and its imports from the package."""
    tree = ast.parse(source)
    words = hashlib.sha256()
    for word in _words(tree):
        words.update(f"{word}\n".encode())
    return words.hexdigest(), sorted(set(_imports(tree)))


def _words(node: object) -> Iterator[str]:
    """Yield a syntax tree as words; empty fields are left out, because versions of Python differ in them."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(value, list):
                value = [statement for statement in value if not _is_text(statement)]
            if value is not None and value != []:
                yield name
                yield from _words(value)
    elif isinstance(node, list):
        for item in node:
            yield from _words(item)
        yield "]"
    else:
        yield repr(node)


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a docstring, or text that documents a constant: it computes nothing."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module imports from the package, at any nesting, except those only for type checking."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("spineseg"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spineseg"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
