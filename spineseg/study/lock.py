"""Hold a study to one method and one state of code, weights and parameters, from its pilot to its last image.

A study starts when ``snakemake study`` first runs, and is then held to the content of ``study/lock.json``. Before
it starts, it is held to the code and settings that made the pilot, because the decision rests on the pilot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spineseg.errors import InputError
from spineseg.provenance import sha256_json
from spineseg.study.configuration import StudyConfig
from spineseg.studyfolder.decisions import PILOT, Membership, find_decision
from spineseg.studyfolder.frozen import digest_pilot
from spineseg.studyfolder.images import read_included
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.locks import AcceptedChange, KeptMethods, Lock, find_lock, write_lock
from spineseg.studyfolder.manifests import read_manifest
from spineseg.studyfolder.sidecars import MadeBy


def pilot_made_by(folder: StudyFolder, method: str) -> MadeBy | None:
    """Return the code, parameters and weights that made a method's masks of the pilot; None if there are none."""
    for path in sorted((folder.chunks / method).glob(f"{PILOT}-*.json")):
        try:
            return read_manifest(path).made_by
        except InputError:  # damaged, or from an older version; it is about to be computed again
            continue
    return None


def check_study(config: StudyConfig, folder: StudyFolder, *, to_study: bool) -> None:
    """Refuse to continue if that would mix methods, code, parameters or weights in one study.

    Parameters
    ----------
    config : StudyConfig
    folder : StudyFolder
        The results folder, which may not exist yet.
    to_study : bool
        Whether the stage study is asked for: before the study starts, pilots may change freely.

    Raises
    ------
    InputError
        In one line: what changed, where, and how to accept it.
    """
    lock = find_lock(folder)
    if lock is not None:
        # other targets do not change the study's method, whatever they decide
        planned = _planned(config, folder) if to_study else None
        _refuse(config, folder, lock, planned or lock.kept)
    elif to_study:
        before = {name: made for name in config.methods if (made := pilot_made_by(folder, name))}
        now = {name: method.made_by() for name, method in config.methods.items()}
        changed = {name: before[name].changes_to(now[name]) for name in before}
        if any(changed.values()) and not _is_accepted(config, now):
            listed = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in changed.items() if texts)
            raise InputError(
                f"{folder.chunks}: the pilot was made by other code or settings than the present ones ({listed}). "
                f"{_advice(config, now)}"
            )


def find_refusal(config: StudyConfig, folder: StudyFolder) -> str:
    """Return why the study may not continue; empty if it may."""
    try:
        check_study(config, folder, to_study=True)
    except InputError as error:
        return str(error)
    return ""


def is_frozen(config: StudyConfig, folder: StudyFolder) -> bool:
    """Whether decision and pilot stay as they are: the study has started, and no accepted change is pending."""
    lock = find_lock(folder)
    if lock is None:
        return False
    kept = _planned(config, folder) or lock.kept
    methods = _methods_in_use(folder, kept, lock)
    if not set(methods) <= set(config.methods):
        return True
    now = _lock_now(config, kept, methods)
    return not (_changes(lock, now) and _is_accepted(config, now))


def find_frozen_pilot(config: StudyConfig, folder: StudyFolder, earlier: Membership) -> frozenset[str] | None:
    """Return the images that were in the pilot when the study started; None if the pilot may still change.

    Parameters
    ----------
    config : StudyConfig
    folder : StudyFolder
    earlier : Membership
        Used if the lock is from a version that did not record the pilot's images.
    """
    lock = find_lock(folder)
    if lock is None or not is_frozen(config, folder):
        return None
    return frozenset(lock.pilot or (image for image, chunk in earlier.chunks.items() if chunk.startswith(PILOT)))


def lock_study(config: StudyConfig, folder: StudyFolder, kept: KeptMethods) -> Lock:
    """Start or continue a study with a method, or with one for each contrast; write ``study/lock.json``.

    Returns
    -------
    lock : Lock
        With all changes that have been accepted.

    Raises
    ------
    InputError
        If the study was started with another setup and the change has not been accepted, or if no method is kept for a
        contrast of its images.
    """
    lock = find_lock(folder)
    if lock:
        _refuse(config, folder, lock, kept)
    images = read_included(folder.images) if folder.images.is_file() else []
    methods = kept.of_all([image.contrast for image in images] or [""], str(folder.decision))
    now = _lock_now(config, kept, methods)
    changes = _changes(lock, now) if lock else _accepted_before(config)
    accepted = lock.accepted if lock else ()
    if changes and config.accept_changes:
        accepted += (AcceptedChange(tuple(changes), config.accept_changes.reason, config.accept_changes.by),)
    is_as_started = lock is not None and not changes
    if lock and is_as_started:
        pilot, known = lock.pilot, lock.images
    else:
        pilot, known = digest_pilot(folder, images), tuple(image.image_id for image in images)
    now = Lock(kept, now.made_by, accepted, pilot, known)
    write_lock(folder, now)
    return now


def _planned(config: StudyConfig, folder: StudyFolder) -> KeptMethods | None:
    """Return the methods that the study would run: a person's choice, or the decision's; None where unknown."""
    if config.override:
        return KeptMethods(config.override.method)
    decision = find_decision(folder.decision)
    if decision is None:
        return None
    # an override was removed: the decision is about to be computed again
    kept = KeptMethods(decision.computed) if decision.verdict == "override" else decision.kept
    return kept if kept.method or kept.by_contrast else None


def _methods_in_use(folder: StudyFolder, kept: KeptMethods, lock: Lock) -> tuple[str, ...]:
    """Return the methods that the study's images use; if nothing else is planned, those of the lock.

    Raises
    ------
    InputError
        If no method is kept for a contrast of the images.
    """
    if kept == lock.kept:
        return tuple(lock.made_by)
    contrasts = {image.contrast for image in read_included(folder.images)} if folder.images.is_file() else set()
    return kept.of_all(contrasts or kept.by_contrast or [""], str(folder.decision))


def _lock_now(config: StudyConfig, kept: KeptMethods, methods: Iterable[str]) -> Lock:
    """Return the lock that a study would have if it started now."""
    return Lock(kept, {method: config.methods[method].made_by() for method in methods})


def _refuse(config: StudyConfig, folder: StudyFolder, lock: Lock, kept: KeptMethods) -> None:
    """Raise InputError unless methods, code, parameters and weights are as in the lock, or the change is accepted."""
    methods = _methods_in_use(folder, kept, lock)
    for method in methods:
        if method not in config.methods:
            raise InputError(
                f"{folder.lock}: the study is held to {method}, which the config key 'methods' no longer names; put it"
                " back, or give the new study another dataset name"
            )
    now = _lock_now(config, kept, methods)
    changes = _changes(lock, now)
    if changes and not _is_accepted(config, now):
        raise InputError(
            f"{folder.lock}: the study was started with another setup ({', '.join(changes)}); continuing would mix"
            f" masks that cannot be compared. {_advice(config, now)}"
        )


def _changes(lock: Lock, now: Lock) -> list[str]:
    """Name the differences between the lock and now; another method differs in everything."""
    changes = []
    contrasts = {*lock.kept.by_contrast, *now.kept.by_contrast}
    for contrast in sorted(contrasts) or [""]:
        before, after = lock.kept.of(contrast), now.kept.of(contrast)
        if before != after:
            changes.append(f"method{f' of {contrast}' if contrast else ''} {before}, now {after}")
    if changes:
        return changes
    for method in lock.made_by.keys() & now.made_by.keys():
        differ = lock.made_by[method].changes_to(now.made_by[method])
        # with a single method its name is not needed
        changes += [f"{method}: {text}" for text in differ] if len(lock.made_by) > 1 else differ
    return changes


State = Lock | Mapping[str, MadeBy]


def _advice(config: StudyConfig, now: State) -> str:
    """Explain the three ways to resolve a lock conflict."""
    return (
        "To continue as before, undo the change; to compare the two, give the new run another dataset name and use"
        f" spineseg drift; to accept it and recompute all masks, set accept_changes: {{to: {_token(now)}, reason:"
        " ..., by: ...} in the config"
    )


def _token(now: State) -> str:
    """Return a short token of a state, so that accepting one change does not accept a later one."""
    made = now.made_by if isinstance(now, Lock) else now
    state: dict[str, object] = {name: [m.code, dict(m.parameters), dict(m.weights)] for name, m in made.items()}
    if isinstance(now, Lock) and now.kept.by_contrast:
        state["by_contrast"] = dict(now.kept.by_contrast)
    return sha256_json(state)[:8]


def _is_accepted(config: StudyConfig, now: State) -> bool:
    """Whether the configuration accepts this state."""
    return config.accept_changes is not None and config.accept_changes.to == _token(now)


def _accepted_before(config: StudyConfig) -> list[str]:
    """Name a change that was accepted between pilot and study; the pilot has since been computed again."""
    if _is_accepted(config, {name: method.made_by() for name, method in config.methods.items()}):
        return ["computed again after the pilot by other code, weights or parameters"]
    return []
