"""Describe the end of a run: verdict, pages to open, failures, unfinished jobs, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from spineseg.errors import InputError
from spineseg.study.configuration import StudyConfig
from spineseg.study.lock import is_frozen
from spineseg.studyfolder.decisions import Decision, find_decision, find_membership
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.manifests import Manifest, read_manifest

SHOWN = 5
"""Most images or jobs that are named in one line or list; more do not fit on a screen."""

ENOUGH = 20
"""Least number of images for a meaningful share of failures."""


def stop_if_too_many_failed(folder: StudyFolder, config: StudyConfig, method: str) -> None:
    """Stop a study in which most images fail, because the cause is then probably not the images.

    Only images that the present code has segmented since the images were last listed count. Existing masks cost no
    time and may exist for only some images, so they do not count.

    Raises
    ------
    InputError
        If more than `StudyConfig.max_failed` of at least `ENOUGH` images failed.
    """
    declared = config.methods[method]
    if config.max_failed is None or declared.kind == "files" or not folder.images.is_file():
        return
    made_by, listed = declared.made_by(), folder.images.stat().st_mtime_ns
    done, reasons = 0, Counter[str]()
    for written, manifest in _manifests(folder, method):
        if written < listed or manifest.made_by.changes_to(made_by):
            continue
        done += len(manifest.images)
        reasons.update(entry.message for entry in manifest.images if entry.status == "failed")
    failed = sum(reasons.values())
    if done >= ENOUGH and failed > config.max_failed * done:
        reason, count = reasons.most_common(1)[0]
        raise InputError(
            f"{folder.chunks / method}: stopped early: {failed} of {done} images failed by {method}, more than the"
            f" config key max_failed allows ({config.max_failed:g}); most often ({count}): {reason}; find the cause, or"
            " set max_failed higher (null: never stop), then run the study again"
        )


GO_ON = "Repeat the command to continue; finished images are not computed again."
"""Message when a run has stopped, for whatever reason."""


def describe_result(
    folder: StudyFolder, config: StudyConfig, stage: Stage, command: Callable[[Stage], str]
) -> list[str]:
    """Return the result of a run of a stage in lines: verdict, pages to open, next command.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    stage : Stage
        The stage that was run.
    command : callable
        Stage to the command that runs it, as the user types it.

    Raises
    ------
    InputError
        If the decision is damaged.
    """
    from spineseg.decision.report_text import verdict_sentence  # with numpy, which jobs of segmentation need not load

    is_preview = stage == Stage.PILOT and is_frozen(config, folder)
    decision = find_decision(folder.preview if is_preview else folder.decision)
    if decision is None:
        return []
    page, report, csa = folder.qc(stage) / "index.html", folder.report(stage), folder.csa(stage)
    is_side_by_side = stage == Stage.PILOT and len(config.methods) == 2
    words = "both methods side by side" if is_side_by_side else "every mask, slice by slice"
    lines = [f"verdict: {verdict_sentence(decision.document)}"]
    lines += [f"look at: {page} ({words}, the worst first)"] if page.is_file() else []
    lines += [f"report:  {report}"] if report.is_file() else []
    if is_preview:
        return [*lines, "next:    nothing changes for the study, which has started: this was a preview"]
    if stage == Stage.PILOT:
        return [*lines, *_after_pilot(decision, command)]
    lines += [f"areas:   {csa}"] if csa.is_file() else []
    return [*lines, "next:    look through the page, save the marks, name their file in the configuration (marks:)"]


def _after_pilot(decision: Decision, command: Callable[[Stage], str]) -> list[str]:
    """Return the next steps after the pilot's decision."""
    if not {decision.method, *decision.kept.by_contrast.values()} - {None}:
        return ["next:    no method is good enough to continue with; decision.md says what can be done"]
    study = f"{command(Stage.STUDY)}   (every image by {decision.kept.words()})"
    if decision.verdict == "undecided" and decision.document["computed"]["basis"] in ("triage", "nothing"):
        again = command(Stage.PILOT)
        rate = "compare blind in the page (key B) and name the saved marks in the configuration (marks:)"
        is_rated = decision.document.get("ratings", {}).get("n", 0) > 0  # not in decisions of older versions
        step = "add people or references (decision.md says what could settle it)" if is_rated else rate
        return [f"next:    {step}; then", f"         {again}", f"or:      {study}"]
    return [f"next:    {study}"]


def describe_failures(folder: StudyFolder, config: StudyConfig) -> list[str]:
    """Return a line for each method on which images failed: how many, which, and why."""
    chunk_of = find_membership(folder).chunks
    lines = []
    for method in config.methods:
        entries = [
            entry
            for _, manifest in _manifests(folder, method)
            for entry in manifest.images
            if chunk_of.get(entry.image_id) == manifest.chunk
        ]
        failed = sorted((entry.image_id, entry.message) for entry in entries if entry.status == "failed")
        if failed:
            named = "; ".join(f"{image} ({message})" for image, message in failed[:SHOWN])
            more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
            lines.append(f"{method} failed on {len(failed)} of {len(entries)} images: {named}{more}")
    return lines


def describe_unfinished(folder: StudyFolder, config: StudyConfig, logs: Path, since_ns: int) -> list[str]:
    """Return a line for each job of this run that did not finish: what, why, and its log.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    logs : Path
        Folder of the dataset's logs.
    since_ns : int
        When the run began, by the clock of the file system.
    """
    touched = [path for path in sorted(logs.rglob("*.log")) if path.stat().st_mtime_ns >= since_ns]
    ended = {path: _last_line(path) for path in touched}
    manifests = {
        logs / "segment" / method / f"{chunk}.log": folder.manifest(method, chunk)
        for method in config.methods
        for chunk in set(find_membership(folder).chunks.values())
    }
    lines = []
    for path, last in ended.items():
        is_chunk = path in manifests
        if (is_chunk and not manifests[path].is_file()) or (not is_chunk and ": error: " in last):
            what = " ".join(path.relative_to(logs).with_suffix("").parts)
            lines.append(f"not finished: {what}: {last or 'ended without a message'} (log: {path})")
    return lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])


def _manifests(folder: StudyFolder, method: str) -> Iterator[tuple[int, Manifest]]:
    """Yield the manifests of a method that can be read, each with the time at which it was written, ns."""
    for path in sorted((folder.chunks / method).glob("*.json")):
        try:
            yield path.stat().st_mtime_ns, read_manifest(path)
        except (InputError, FileNotFoundError):  # removed meanwhile, or damaged; it is computed again
            continue


def _last_line(path: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
