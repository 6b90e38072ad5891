"""Describe the results folder in the folder itself: a BIDS derivative with a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from spineseg.study.configuration import StudyConfig
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.version import find_version
from spineseg.writing import write_json, write_text

_HEAD = """\
Spinal cord segmentation of the dataset {dataset}

Made by spineseg {version} from {source}: {included} of {found} images of {people} participants.
"""

_STAGES = {
    Stage.PILOT: "The pilot: its images by every method",
    Stage.STUDY: "The study: every image by the method decided on",
    Stage.ALL: "Every image by every method",
}

_WIDTH = 29
"""Width of the column of files, characters."""


def describe_results(folder: StudyFolder, config: StudyConfig, images: Sequence[StudyImage]) -> None:
    """Write ``dataset_description.json`` and ``README`` of a dataset's results.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    images : sequence of StudyImage
    """
    description = {
        "Name": f"{config.dataset}: spinal cord segmentation",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "spineseg", "Version": find_version()}],
        "SourceDatasets": [{"URL": config.source}],
    }
    write_json(folder.description, description)
    write_readme(folder, config, images)


def write_readme(folder: StudyFolder, config: StudyConfig, images: Sequence[StudyImage]) -> None:
    """Write ``README``: the present content of the folder by stage.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    images : sequence of StudyImage
    """
    included = [image for image in images if image.included]
    text = _HEAD.format(
        dataset=config.dataset,
        version=find_version(),
        source=config.source,
        included=len(included),
        found=len(images),
        people=len({image.subject for image in included}),
    )
    for title, lines in _sections(folder):
        listed = [f"{name:{_WIDTH}}{words}" for paths, name, words in lines if any(path.exists() for path in paths)]
        text += "\n".join(["", title, *listed, ""]) if listed else ""
    if not folder.readme.is_file() or folder.readme.read_text() != text:
        write_text(folder.readme, text)


def _sections(folder: StudyFolder) -> Iterator[tuple[str, list[tuple[list[Path], str, str]]]]:
    """Yield the sections of the README: title, and for each line its files, their shown name and their meaning."""

    def line(path: Path, words: str, ending: str = "") -> tuple[list[Path], str, str]:
        return [path], folder.relative(path) + ending, words

    both = f"{folder.relative(folder.decision)}, {folder.relative(folder.decision_text)}"
    masks = sorted(folder.root.glob("sub-*"))[:1]
    kept = "the kept masks; correct them in place, changed ones are not overwritten"
    yield (
        "The dataset",
        [
            line(folder.images, "every image, and the reason where one is not part of the study"),
            line(folder.references, "every reference mask, and the reason where one is not used"),
            line(folder.configuration, "the configuration with its defaults"),
            line(folder.plan, "the plan of the decision, written before the pilot, with its hash"),
            ([folder.decision], both, "which method to keep, why, how certain"),
            line(folder.preview, "what a new decision would say; the study keeps its own"),
            (masks, "sub-*/", "every method's masks, each with a JSON file that says how it was made"),
            line(folder.labels, kept, "/"),
            line(folder.chunks, "what each job did; the study continues from here", "/"),
        ],
    )
    for stage, title in _STAGES.items():
        tables, figures = folder.table(stage, ""), folder.figures(stage)
        lists = ", ".join(sorted(path.name for path in figures.glob("*.tsv")))
        drawn = "the figures as PNG and SVG" + (f"; the report's lists in full: {lists}" if lists else "")
        yield (
            title,
            [
                line(folder.report(stage), "start here: the decision and its evidence on one page"),
                line(folder.qc(stage) / "index.html", "every image, slice by slice"),
                line(figures, drawn, "/"),
                *([line(folder.lock, "method, code and weights of the study")] if stage == Stage.STUDY else []),
                line(tables, ", ".join(sorted(path.name for path in tables.glob("*"))), "/"),
            ],
        )
