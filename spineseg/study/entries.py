"""Check that people, sessions and contrasts named in the configuration exist in the dataset."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.spelling import closest, name_some
from spineseg.study.configuration import DEFAULT_SUFFIXES, SAME_SUFFIX, StudyConfig
from spineseg.studyfolder.images import StudyImage


def check_entries(config: StudyConfig, images: Sequence[StudyImage]) -> None:
    """Refuse an entry that matches no image of the source: otherwise it would be ignored without a message.

    Parameters
    ----------
    config : StudyConfig
    images : sequence of StudyImage
        All images of the source, included or not.

    Raises
    ------
    InputError
        In one line that names the key, the entry and the nearest name.
    """
    if not images:  # reported when no image is left to segment
        return
    people, sessions = {image.subject for image in images}, {image.session for image in images if image.session}
    plan = config.decision
    _check("subjects", config.subjects, people, "subject")
    _check("pilot.subjects", config.pilot.subjects, people, "subject")
    _check("decision.training_subjects", plan.training_subjects, people, "subject")
    _check("follow_up", config.follow_up, sessions, "session")
    _check("decision.repeats", plan.repeats.sessions, sessions, "session")
    suffixes, ids = {image.suffix for image in images}, {image.image_id for image in images}
    # a table of images gives each image's contrast itself
    contrasts = {image.contrast for image in images if image.contrast} | set(config.contrasts.values())
    of_table = {suffix for suffix, contrast in SUFFIX_CONTRAST.items() if contrast in contrasts and config.images}
    there = suffixes | of_table | {SAME_SUFFIX[suffix] for suffix in suffixes & SAME_SUFFIX.keys()}
    asked = config.document["contrasts"]
    if isinstance(asked, dict):
        for key in asked:
            _check(f"contrasts.{key}", [key], there | ids, "suffix or image", shown=suffixes)
    elif list(asked) != list(DEFAULT_SUFFIXES):
        _check("contrasts", asked, there, "suffix", shown=suffixes)
    _check("decision.contrasts", plan.contrasts or (), there | contrasts, "suffix or contrast", shown=suffixes)


def _check(
    key: str, names: Iterable[str] | None, known: Collection[str], what: str, shown: Collection[str] = ()
) -> None:
    """Refuse a name that is not known."""
    for name in names or ():
        if name.removeprefix("sub-") not in known and name not in known:
            hint = closest(name, known) or f"; it has {name_some(sorted(shown or known)) or 'none'}"
            raise InputError(f"config key '{key}': the dataset has no such {what} {name!r}{hint}")
