"""Train a network on tables of labelled images: choice of people, data, and provenance of the weights file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spineseg.deepseg.network import DETECT, SEGMENT, UNetConfig
from spineseg.deepseg.weights import load_model, save_model
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.training.deepseg.log import CsvLog, draw_log
from spineseg.training.deepseg.shards import (
    MASK_FILES,
    Shard,
    build_cordless_shard,
    build_mask_shard,
    build_phantom_shard,
    build_shard,
    build_template_shard,
)
from spineseg.training.deepseg.trainer import Trainer, TrainingParams
from spineseg.training.labelled_images import LabelledImage, load_tables, split_people
from spineseg.training.origin import describe_code, describe_files, describe_images

CONFIGS = {
    ("detect", "2d"): DETECT,
    ("segment", "2d"): SEGMENT,
    ("segment", "3d"): replace(SEGMENT, kernel="3d"),
}

CORDLESS_WEIGHT = {"detect": 0.5, "segment": 0.15}
"""Weight of slices without a spine relative to slices painted from phantoms. The detector is applied to whole images,
which may show no spine; the other network is applied only where the detector found a cord."""

TEMPLATE_FACTOR = 0.6
"""Factor for the weight of a template: it is an average of people, sharper than any and without noise, so it is worth
less than an image of one person."""


def parse_fold(text: str) -> tuple[int, int]:
    """Parse a fold written as ``i/N``.

    Raises
    ------
    InputError; unless 0 <= i < N
    """
    try:
        fold, n_folds = (int(part) for part in text.split("/"))
    except ValueError:
        fold, n_folds = -1, 0
    if not 0 <= fold < n_folds:
        raise InputError(f"-fold {text}: expected i/N with 0 <= i < N, such as 0/3")
    return fold, n_folds


def parse_trust(items: list[str]) -> dict[str, float]:
    """Parse weights written as ``subject=factor``.

    Raises
    ------
    InputError; unless each factor is a number from 0 to 1
    """
    trust = {}
    for item in items:
        subject, _, factor = item.partition("=")
        try:
            trust[subject] = float(factor)
        except ValueError:
            trust[subject] = -1.0
        if not 0 <= trust[subject] <= 1:
            raise InputError(f"-trust {item}: expected SUBJECT=X with X from 0 to 1, such as sub01=0.5")
    return trust


def choose_images(
    data: Path, extra: Path | None, fold: str | None, exclude: list[str], recipe: Path | None = None
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images for training and those held out.

    People in `exclude`, or held out by the fold, are never used for training, whichever table names them. If there is
    a recipe, its people are split into folds.

    Parameters
    ----------
    data : table of labelled images
    extra : table of more images, used for training only
    fold : ``i/N``, or None to hold nobody out
    exclude : people to hold out
    recipe : names the images of the tables to use

    Raises
    ------
    InputError
        If a table, the recipe or the fold cannot be read, or a person in `exclude` is not in the table.
    """
    images, more = load_tables(data, [extra] if extra else [], recipe)
    unknown = set(exclude) - {item.subject for item in images}
    if unknown:
        raise InputError(f"-exclude {' '.join(sorted(unknown))}: no such subject in {data}")
    kept, held_out = split_people(images, *parse_fold(fold)) if fold else (images, [])
    held_out = held_out + [item for item in kept if item.subject in exclude]
    away = {item.subject for item in held_out}
    return [item for item in kept + more if item.subject not in away], held_out


@dataclass(frozen=True)
class Sources:
    """Training data besides the images of the table."""

    extra: Path | None = None  # Table of more labelled images, used for training only
    masks: Path | None = None  # Folder of masks without images
    template: Path | None = None  # Folder of a template, see `shards.build_template_shard`
    n_phantoms: int = 2000  # Label slices of synthetic people, with or without cord
    n_cordless: int = 500  # Synthetic label slices without a spine


def build_shards(
    images: list[LabelledImage], config: UNetConfig, sources: Sources, seed: int, trust: dict[str, float] | None = None
) -> list[Shard]:
    """Load the images and make the label slices; synthetic slices depend only on the seed.

    `trust` gives the weight of some subjects' references, 0 to 1.
    """
    rng, trust = np.random.default_rng(seed), trust or {}
    shards = [build_shard(item, config) for item in images]
    if config.stage == "segment":  # the drawn edge of the cord depends on the contrast, its position does not
        shards = even_out_contrasts(shards, images)
    shards = [replace(shard, weight=shard.weight * trust.get(shard.subject, 1.0)) for shard in shards]
    if sources.template is not None:
        shard = build_template_shard(sources.template, config)
        shards.append(replace(shard, weight=TEMPLATE_FACTOR * shard.weight))
    if sources.masks is not None and config.stage == "segment":
        shards.append(build_mask_shard(sources.masks, config, rng, weight=1.0))
    if sources.n_phantoms:
        shards.append(build_phantom_shard(sources.n_phantoms, config, rng, weight=1.0))
    if sources.n_cordless:
        shards.append(build_cordless_shard(sources.n_cordless, config, rng, weight=CORDLESS_WEIGHT[config.stage]))
    if config.stage == "segment":
        shards += _build_conus_shards(config, sources, rng)
    return shards


def even_out_contrasts(shards: list[Shard], images: list[LabelledImage]) -> list[Shard]:
    """Scale weights so that each contrast is drawn in proportion to the square root of its total weight.

    Most labelled images show the same contrast. Without scaling, other contrasts are rarely drawn; with equal shares,
    the network would memorise the two images of the rarest contrast.
    """
    contrasts = [item.contrast for item in images]
    total = dict.fromkeys(contrasts, 0.0)
    for shard, contrast in zip(shards, contrasts, strict=True):
        total[contrast] += shard.weight
    mean = sum(total.values()) / max(len(total), 1)
    return [
        replace(shard, weight=shard.weight * float(np.sqrt(mean / total[contrast])))
        for shard, contrast in zip(shards, contrasts, strict=True)
    ]


CONUS_WEIGHT = 0.4
"""Weight of slices that show the end of the cord: one slice in 20, so that every batch contains roots."""


def _build_conus_shards(config: UNetConfig, sources: Sources, rng: np.random.Generator) -> list[Shard]:
    """Make more slices at and below the conus, where a network trained only on cords mistakes roots for cord."""
    shards = []
    if sources.template is not None:
        shard = build_template_shard(sources.template, config, below_only=True)
        shards.append(replace(shard, weight=CONUS_WEIGHT * shard.weight))
    n_slices = sources.n_phantoms // 5
    if n_slices:
        shards.append(build_phantom_shard(n_slices, config, rng, weight=CONUS_WEIGHT, lumbar=True))
    return shards


def train_network(
    stage: str,
    *,
    data: Path,
    out: Path,
    sources: Sources = Sources(),
    kernel: str = "2d",
    start: Path | None = None,
    recipe: Path | None = None,
    fold: str | None = None,
    exclude: list[str] | tuple[str, ...] = (),
    trust: dict[str, float] | None = None,
    settings: dict[str, Any] | None = None,
    device: str = "cpu",
    resume: bool = False,
) -> None:
    """Train one network and write its weights with their provenance.

    Parameters
    ----------
    stage : {"detect", "segment"}
    data : table of labelled images
    out : weights file; beside it, with the same stem: ``.csv`` (log), ``.png`` (its curves), ``.ckpt`` (checkpoint,
        during training)
    kernel : {"2d", "3d"}
    start : weights to continue from; those of the 2-D network for a 3-D one
    recipe : names the images of the tables to use, see `spineseg.training.labelled_images.load_recipe`
    fold, exclude
        People who are held out, see `choose_images`.
    trust : subjects whose references count less, see `build_shards`
    settings : fields of `TrainingParams` that differ from the default
    resume : continue from the checkpoint if there is one; do nothing if the weights exist already
    """
    checkpoint = out.with_suffix(".ckpt")
    going_on = resume and checkpoint.is_file()
    if resume and out.is_file() and not going_on:
        print(f"{out}: is there already; remove it to train again", flush=True)
        return
    if (stage, kernel) not in CONFIGS:
        raise InputError(f"-kernel {kernel}: only the network that outlines (segment) comes in 3d")
    config, params = CONFIGS[stage, kernel], TrainingParams(**(settings or {}))
    images, held_out = choose_images(data, sources.extra, fold, list(exclude), recipe)
    shards = build_shards(images, config, sources, params.seed, trust)
    first = load_model(start)[0] if start else None
    trainer = Trainer(config, params, shards, [build_shard(item, config) for item in held_out], device, first)
    out.parent.mkdir(parents=True, exist_ok=True)
    if going_on:
        trainer.load(checkpoint)
    n_slices = sum(len(s.image) for s in shards)
    print(f"{stage}: {len(images)} images, {n_slices} slices, {len(held_out)} images held out", flush=True)
    model = trainer.run(checkpoint, CsvLog(out.with_suffix(".csv"), append=going_on))
    provenance = {
        "people": sorted({item.subject for item in images}),
        "held_out": sorted({item.subject for item in held_out}),
        "images": describe_images(images),
        "code": describe_code(),
        "fold": fold,
        "trust": trust or {},
        "params": asdict(params),
        "steps_done": trainer.state.step,
        "start_sha256": sha256_file(start) if start else None,
        "synthetic": {
            "masks": describe_files(sources.masks.glob(MASK_FILES)) if sources.masks else {},
            "template": describe_files(sources.template.glob("*.nii.gz")) if sources.template else {},
            "phantoms": sources.n_phantoms,
            "cordless": sources.n_cordless,
        },
    }
    draw_log(out.with_suffix(".csv"), out.with_suffix(".png"))
    save_model(out, model.cpu(), provenance, half=True)
    checkpoint.unlink(missing_ok=True)
