"""Train detectors on tables of labelled images and write their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from spineseg.centerline.detector import save_detector
from spineseg.contrasts import CONTRASTS
from spineseg.errors import InputError
from spineseg.training.labelled_images import LabelledImage, load_tables
from spineseg.training.optic.fit import TrainingParams, load_slices, train_detector
from spineseg.training.origin import describe_code, describe_images
from spineseg.writing import file_stem


def load_items(
    tables: Sequence[Path],
    exclude: Sequence[str] = (),
    added: Sequence[Sequence[str]] = (),
    *,
    recipe: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[LabelledImage]:
    """Read tables of labelled images, each image once, without the people left out.

    Parameters
    ----------
    tables : sequence of Path
        The first is the recipe's "data", the others its "extra"; see `spineseg.training.labelled_images`.
    exclude : sequence of str; people to leave out
    added : sequence of (image, mask, contrast)
        More images, each of a separate person (or template); a recipe does not apply to them.
    recipe : names the images of the tables to use
    log : called with a line about images that the recipe leaves out

    Raises
    ------
    InputError
        If a table cannot be read, a person to leave out is in none, or nothing is left.
    """
    images, more = load_tables(tables[0], tables[1:], recipe, log)
    items = images + more
    for image, mask, contrast in added:
        if contrast not in CONTRASTS:
            raise InputError(f"-add {image}: expected one of {', '.join(CONTRASTS)}, found {contrast!r}")
        items.append(LabelledImage(Path(image), Path(mask), contrast, file_stem(image)))
    unknown = sorted(set(exclude) - {item.subject for item in items})
    if unknown:
        raise InputError(f"-exclude: expected people of the tables, found {', '.join(unknown)}")
    kept = [item for item in items if item.subject not in set(exclude)]
    if not kept:
        raise InputError(f"{tables[0]}: expected labelled images, found none to learn from")
    return kept


def train_detectors(
    tables: Sequence[Path],
    folder: Path,
    *,
    contrasts: Sequence[str],
    exclude: Sequence[str] = (),
    added: Sequence[Sequence[str]] = (),
    recipe: Path | None = None,
    params: TrainingParams = TrainingParams(),  # noqa: B008  frozen, so that one default serves all calls
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Train the detectors of some contrasts and write ``optic_<contrast>.safetensors``.

    The same images, excluded people and parameters give the same bytes on the same machine.

    Parameters
    ----------
    tables, exclude, added, recipe, log
        As for `load_items`.
    folder : where to write the files
    contrasts : contrasts to train
    params : parameters of the training

    Returns
    -------
    list of Path
        The files.
    """
    items = load_items(tables, exclude, added, recipe=recipe, log=log)
    sources = [load_slices(item) for item in items]
    files = []
    for contrast in contrasts:
        detector = train_detector(sources, contrast, params, log=log)
        about = {
            "people": sorted({item.subject for item in items}),
            "images": describe_images(items),
            "params": asdict(params),
            "code": describe_code(),
        }
        files.append(Path(folder) / f"optic_{contrast}.safetensors")
        save_detector(files[-1], detector, about)
    return files
