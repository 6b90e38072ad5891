"""Hold a study to one method, one state of its code, weights and parameters, from its pilot to its last image.

A study starts when ``snakemake study`` first runs: ``study/lock.json`` then says what it is held to. Before that, what
the pilot was made by counts, for the decision rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from spineseg.errors import InputError
from spineseg.methods.declared import DeclaredMethod
from spineseg.provenance import sha256_json
from spineseg.study.configuration import StudyConfig
from spineseg.studyfolder.decisions import PILOT, AcceptedChange, Lock, find_decision, find_lock, write_lock
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import read_manifest
from spineseg.studyfolder.sidecars import MadeBy


def pilot_made_by(folder: StudyFolder, method: str) -> MadeBy | None:
    """Return what a method's masks of the pilot were made by; None where there are none."""
    for path in sorted((folder.chunks / method).glob(f"{PILOT}-*.json")):
        try:
            return read_manifest(path).made_by
        except InputError:  # damaged, or of an older version: it is about to be made again
            continue
    return None


def check_study(config: StudyConfig, folder: StudyFolder, *, to_study: bool) -> None:
    """Refuse to go on where that would mix methods, code, parameters or weights in one study.

    Parameters
    ----------
    config : StudyConfig
    folder : StudyFolder
        It may not exist yet.
    to_study : bool
        Whether the study itself is asked for: before it starts, pilots may change freely.

    Raises
    ------
    InputError
        In one line: what changed, where, and how to accept it.
    """
    lock = find_lock(folder)
    if lock is not None:
        # other targets leave the study's method alone, whatever they decide
        method = _planned_method(config, folder) if to_study else None
        _refuse(config, folder, lock, method or lock.method)
    elif to_study:
        before = {name: made for name in config.methods if (made := pilot_made_by(folder, name))}
        now = {name: method.made_by() for name, method in config.methods.items()}
        changed = {name: before[name].changes_to(now[name]) for name in before}
        if any(changed.values()) and not _is_accepted(config, now):
            listed = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in changed.items() if texts)
            raise InputError(
                f"{folder.chunks}: the pilot was not made by what is here now ({listed}). {_advice(config, now)}"
            )


def find_refusal(config: StudyConfig, folder: StudyFolder) -> str:
    """Return why the study may not go on; empty where it may."""
    try:
        check_study(config, folder, to_study=True)
    except InputError as error:
        return str(error)
    return ""


def is_frozen(config: StudyConfig, folder: StudyFolder) -> bool:
    """Whether the decision and the pilot stay as they are: the study has started, and no accepted change is due."""
    lock = find_lock(folder)
    if lock is None:
        return False
    method = _planned_method(config, folder) or lock.method
    if method not in config.methods:
        return True
    now = Lock(method, config.methods[method].made_by())
    return not (_changes(lock, now) and _is_accepted(config, now))


def lock_study(config: StudyConfig, folder: StudyFolder, method: str) -> Lock:
    """Start a study by a method, or go on with it; write ``study/lock.json``.

    Returns
    -------
    lock : Lock
        With the changes that were accepted so far.

    Raises
    ------
    InputError
        If the study was started otherwise and the change has not been accepted.
    """
    lock = find_lock(folder)
    if lock:
        _refuse(config, folder, lock, method)
    now = Lock(method, config.methods[method].made_by())
    changes = _changes(lock, now) if lock else _accepted_before(config)
    accepted = lock.accepted if lock else ()
    if changes and config.accept_changes:
        accepted += (AcceptedChange(tuple(changes), config.accept_changes.reason, config.accept_changes.by),)
    now = Lock(method, now.made_by, accepted)
    write_lock(folder, now)
    return now


def _planned_method(config: StudyConfig, folder: StudyFolder) -> str | None:
    """Return the method that the study would run: a person's choice, or the decision's; None where unknown."""
    if config.override:
        return config.override.method
    decision = find_decision(folder.decision)
    if decision is None:
        return None
    # an override that was taken back: the decision is about to be made again
    return decision.computed if decision.verdict == "override" else decision.method


def _refuse(config: StudyConfig, folder: StudyFolder, lock: Lock, method: str) -> None:
    """Raise InputError unless method and what makes it are as the lock says, or the change was accepted."""
    if method not in config.methods:
        raise InputError(
            f"{folder.lock}: the study is held to {method}, which the config key 'methods' no longer names; put it"
            " back, or give the new study another dataset name"
        )
    now = Lock(method, config.methods[method].made_by())
    changes = _changes(lock, now)
    if changes and not _is_accepted(config, now):
        raise InputError(
            f"{folder.lock}: the study was started otherwise ({', '.join(changes)}); going on would mix masks that do"
            f" not compare. {_advice(config, now)}"
        )


def _changes(lock: Lock, now: Lock) -> list[str]:
    """Name what differs between the lock and now; another method differs in everything."""
    if lock.method != now.method:
        return [f"method {lock.method}, now {now.method}"]
    return lock.made_by.changes_to(now.made_by)


State = Lock | Mapping[str, MadeBy]


def _advice(config: StudyConfig, now: State) -> str:
    """Explain the three ways to resolve a lock conflict."""
    return (
        "To go on as before, put back what changed; to compare the two, give the new run another dataset name and use"
        f" spineseg drift; to accept it and compute all masks again, set accept_changes: {{to: {_token(now)}, reason:"
        " ..., by: ...} in the config"
    )


def _token(now: State) -> str:
    """Return a short name of a state, so that accepting one change accepts no later one."""
    made = {now.method: now.made_by} if isinstance(now, Lock) else now
    return sha256_json({name: [m.code, dict(m.parameters), dict(m.weights)] for name, m in made.items()})[:8]


def _is_accepted(config: StudyConfig, now: State) -> bool:
    """Whether the configuration accepts this state."""
    return config.accept_changes is not None and config.accept_changes.to == _token(now)


def _accepted_before(config: StudyConfig) -> list[str]:
    """Name a change that was accepted between the pilot and the study; the pilot has been computed again since."""
    state: Mapping[str, DeclaredMethod] = config.methods
    if _is_accepted(config, {name: method.made_by() for name, method in state.items()}):
        return ["computed again after the pilot by other code, weights or parameters"]
    return []
