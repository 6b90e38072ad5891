"""What a person must know of a study beside its result, said at the end of a run; each notice is one line."""

from __future__ import annotations

from spineseg.decision.wording import name_some
from spineseg.study.configuration import StudyConfig
from spineseg.study.index import find_idle_exclusions
from spineseg.study.lock import find_replaced_pilot
from spineseg.studyfolder.corrections import find_refused
from spineseg.studyfolder.decisions import find_decision, study_methods
from spineseg.studyfolder.images import read_images, read_included
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.preview import compare_decisions


def list_refused(folder: StudyFolder) -> list[str]:
    """Return a line for each corrected mask that cannot be used; nothing before the images are listed."""
    return find_refused(folder, read_included(folder.images)) if folder.images.is_file() else []


def list_notices(folder: StudyFolder, config: StudyConfig, stage: Stage | None) -> list[str]:
    """Return what a person must know of a study.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    stage : Stage or None
        What was run; None where it was something else than a stage.

    Raises
    ------
    InputError
        If a file of the study is damaged.
    """
    if not folder.images.is_file():
        return []
    images = read_images(folder.images)
    notices = list_refused(folder) + find_idle_exclusions(config, images)
    if replaced := find_replaced_pilot(folder):
        notices.append(f"{REPLACED}: {name_some(replaced)}")
    decision = find_decision(folder.decision)
    if stage in (Stage.STUDY, Stage.ALL) and decision is not None:
        kept = study_methods(folder)
        for contrast, n in decision.count_unseen(stage_images(images, stage)).items():
            which = "1 image is" if n == 1 else f"{n} images are"
            notices.append(
                f"warning: {which} {contrast}, which no image of the pilot was; {kept.of(contrast)} is kept for them"
                " without evidence"
            )
    preview = find_decision(folder.preview)
    if decision is not None and preview is not None:
        notices += [f"a new decision would differ: {text}" for text in compare_decisions(decision, preview)]
    return notices


REPLACED = "images of the pilot have been replaced since the study started, and its decision has not seen them"
