"""Hold a study to one method, one version, one set of weights and parameters, from its pilot to its last image.

A study is begun when ``snakemake study`` first runs: ``study/lock.json`` then says by what. Before that, what the
pilot was made by counts, for the decision rests on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spineseg import __version__
from spineseg.errors import InputError
from spineseg.provenance import sha256_json, weights_of
from spineseg.study.chunks import PILOT
from spineseg.study.declared import DeclaredMethod, declared_methods, own_parameters
from spineseg.writing import write_json

LOCK = Path("study") / "lock.json"
"""Below the results of the dataset."""

SHOWN_DIGITS = 12
"""Of a checksum in a message; decision.json has it whole."""

Facts = dict[str, Any]


def current_facts(method: DeclaredMethod) -> Facts:
    """Return what a method's masks would now be made by: version, parameters, weights."""
    if method.is_own:
        parameters = json.loads(json.dumps(asdict(own_parameters(method))))  # tuples become lists, as in files
        return {"version": __version__, "parameters": parameters, "weights": weights_of(method.kind, method.weights)}
    return {"version": __version__, "parameters": method.foreign_parameters(), "weights": {}}


def pilot_facts(results: Path, method: str) -> Facts | None:
    """Return what a method's masks of the pilot were made by; None where there are none."""
    for path in sorted((results / "chunks" / method).glob(f"{PILOT}-*.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            return {key: manifest[key] for key in ("version", "parameters", "weights")}
        except (OSError, ValueError, KeyError):
            continue
    return None


def describe_changes(before: Facts, now: Facts) -> list[str]:
    """Name what differs, with both values.

    Examples
    --------
    >>> facts = {"version": "1", "parameters": {"thr": None}, "weights": {"a": "0" * 64}}
    >>> describe_changes(facts, facts | {"version": "2", "parameters": {"thr": 0.4}})
    ['version 1, now 2', 'thr null, now 0.4']
    """
    changes = [] if before["version"] == now["version"] else [f"version {before['version']}, now {now['version']}"]
    for key in sorted(before["parameters"].keys() | now["parameters"].keys()):
        old, new = (json.dumps(facts["parameters"].get(key)) for facts in (before, now))
        if old != new:
            changes.append(f"{key} {old}, now {new}")
    for file in sorted(before["weights"].keys() | now["weights"].keys()):
        old, new = (facts["weights"].get(file, "none")[:SHOWN_DIGITS] for facts in (before, now))
        if old != new:
            changes.append(f"weights {file} {old}, now {new}")
    return changes


def check_study(config: Mapping[str, Any], results: str | Path, *, to_study: bool) -> None:
    """Refuse to go on where that would mix methods, versions, parameters or weights in one study.

    Parameters
    ----------
    config : dict
        Complete configuration.
    results : path
        The dataset's results folder; it may not exist yet.
    to_study : bool
        Whether the study itself is asked for: before it is begun, pilots may change as they like.

    Raises
    ------
    InputError
        In one line: what changed, where, and how to accept it.
    """
    results = Path(results)
    methods = declared_methods(config)
    lock = read_lock(results)
    if lock is not None:
        # other targets leave the study's method alone, whatever they decide
        method = _planned_method(config, results) if to_study else None
        _refuse(config, results, lock, method or lock["method"], methods)
    elif to_study:
        before = {name: facts for name in methods if (facts := pilot_facts(results, name))}
        now = {name: current_facts(method) for name, method in methods.items()}
        changed = {name: describe_changes(before[name], now[name]) for name in before}
        if any(changed.values()) and not _is_accepted(config, now):
            listed = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in changed.items() if texts)
            where = results / "chunks"
            raise InputError(f"{where}: the pilot was not made by what is here now ({listed}). {_advice(config, now)}")


def lock_study(config: Mapping[str, Any], results: str | Path, method: str) -> dict[str, Any]:
    """Begin a study by a method, or go on with it; write ``study/lock.json``.

    Returns
    -------
    lock : dict
        method, facts, and the changes that were accepted so far.

    Raises
    ------
    InputError
        If the study was begun otherwise and the change has not been accepted.
    """
    results = Path(results)
    methods = declared_methods(config)
    lock = read_lock(results) or {}
    if lock:
        _refuse(config, results, lock, method, methods)
    now = {"method": method, "facts": current_facts(methods[method])}
    changes = _changes(lock, now) if lock else _accepted_before(config, methods)
    accepted = list(lock.get("accepted", ()))
    if changes:
        given = config["accept_changes"]
        accepted.append({"changes": changes, "reason": given["reason"], "by": given["by"]})
    lock = now | {"accepted": accepted}
    write_json(results / LOCK, lock)
    return lock


def read_lock(results: str | Path) -> dict[str, Any] | None:
    """Return by what a study was begun, or None where it was not.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = Path(results) / LOCK
    if not path.is_file():
        return None
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        return {key: lock[key] for key in ("method", "facts", "accepted")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected what the study was begun by, found other content; delete it") from error


def _planned_method(config: Mapping[str, Any], results: Path) -> str | None:
    """Return the method that the study would run: a person's choice, or the decision's; None where unknown."""
    if config["override"]:
        return config["override"]["method"]
    try:
        decision = json.loads((results / "decision.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # an override that was taken back: the decision is about to be made again
    return decision["computed"]["method"] if decision.get("override") else decision["method"]


def _refuse(
    config: Mapping[str, Any],
    results: Path,
    lock: Mapping[str, Any],
    method: str,
    methods: Mapping[str, DeclaredMethod],
) -> None:
    """Raise InputError unless method and facts are as the lock says, or the change was accepted."""
    if method not in methods:
        raise InputError(
            f"{results / LOCK}: the study was begun by {method}, which the config key 'methods' no longer names; put it"
            " back, or give the new study another dataset name"
        )
    now = {"method": method, "facts": current_facts(methods[method])}
    changes = _changes(lock, now)
    if changes and not _is_accepted(config, now):
        raise InputError(
            f"{results / LOCK}: the study was begun otherwise ({', '.join(changes)}); going on would mix masks that do"
            f" not compare. {_advice(config, now)}"
        )


def _changes(lock: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between the lock and now; another method differs in everything."""
    if lock["method"] != now["method"]:
        return [f"method {lock['method']}, now {now['method']}"]
    return describe_changes(lock["facts"], now["facts"])


def _advice(config: Mapping[str, Any], now: Any) -> str:
    """Say how to go on: as begun, anew, or beside it."""
    return (
        "To go on as begun, put back what changed; to compare the two, give the new run another dataset name and use"
        f" spineseg drift; to accept it and make every mask anew, set accept_changes: {{to: {_token(now)}, reason: ...,"
        " by: ...} in the config"
    )


def _token(now: Any) -> str:
    """Return a short name of a state, so that accepting one change accepts no later one."""
    return sha256_json(now)[:8]


def _is_accepted(config: Mapping[str, Any], now: Any) -> bool:
    """Whether the configuration accepts this state."""
    return bool(config["accept_changes"]) and config["accept_changes"]["to"] == _token(now)


def _accepted_before(config: Mapping[str, Any], methods: Mapping[str, DeclaredMethod]) -> list[str]:
    """Name a change that was accepted between the pilot and the study; the pilot has been made anew since."""
    state = {name: current_facts(method) for name, method in methods.items()}
    return ["made anew after the pilot by other software, weights or parameters"] if _is_accepted(config, state) else []
