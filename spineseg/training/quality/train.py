"""Train the quality model that the package ships, from labelled images and phantoms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.code_digest import digest_code
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.quality.predictor import DicePredictor, predictor_to_json
from spineseg.training.labelled_images import N_FOLDS, LabelledImage, assign_folds, load_tables
from spineseg.training.origin import describe_code, describe_images
from spineseg.training.quality.cases import Case, make_cases, make_phantom, read_known
from spineseg.training.quality.fit import (
    OWN_KINDS,
    Cases,
    as_cases,
    fit_dice_predictor,
    kind_of_image,
    predict_held_out,
    shared_error,
)
from spineseg.writing import write_json, write_text

PHANTOM_SEED = 101
"""Seed of the training phantoms; the validation uses others."""

REAL_FAULTS, PHANTOM_FAULTS = 20, 6
"""Number of faulty masks per image: many for the few real people, few for the many phantoms."""

REAL_VARIANTS, PHANTOM_VARIANTS = 3, 1
"""Number of harder copies per image, real and phantom."""

Task = tuple[LabelledImage | tuple[int, int], int, Path, list[int], tuple[int, int]]
"""A labelled image, or a phantom's seed and index; the fold, the folder of folds, a seed, faults and variants."""

OWN_WEIGHT = 2.0
"""Weight of a method's mask relative to a mask with an added fault: the model is used on masks of methods."""


def train_quality(
    data: Path,
    folds: Path,
    out: Path,
    *,
    n_phantoms: int,
    seed: int,
    recipe: Path | None = None,
    jobs: int = 1,
    cases_file: Path | None = None,
    log: Callable[[str], None] = print,
) -> DicePredictor:
    """Make cases, fit the model and write it with its provenance.

    Parameters
    ----------
    data : table of labelled images
    folds : folder with fold0, fold1, ...: deepseg's networks, each trained without the people of its fold
    out : the model to write (.json)
    recipe : names the labelled images to use
    jobs : number of images processed at once; the result does not depend on it
    cases_file : Path, optional
        File (.tsv) that keeps the cases. They are reused if the same images, weights and code made them.
    """
    images, _ = load_tables(data, [], recipe, log)
    origin = describe_origin(images, folds, n_phantoms, seed)
    rows = load_cases(cases_file, origin) if cases_file else None
    if rows is None:
        rows = collect_cases(images, folds, n_phantoms, seed, jobs, log)
        if cases_file:
            save_cases(cases_file, rows, origin)
    rows = [row for row in rows if row["status"] == "ok"]  # an empty mask has Dice 0 without a model
    cases = as_cases(rows, weigh_cases(rows))
    about = {"code": describe_code(), "n_cases": len(rows), "held_out": describe_errors(rows, cases)}
    model = fit_dice_predictor(cases, origin | about)
    write_json(out, predictor_to_json(model))
    return model


def describe_errors(rows: Sequence[Case], cases: Cases) -> dict[str, Any]:
    """Return the errors of the prediction for held-out people, and the error that masks of one method share.

    Returns
    -------
    dict
        spearman, mean_abs_error; coverage_without: share of each kind of image within the 90 % intervals of a fit
        without that kind; bias by method: mean of predicted minus true Dice over the method's masks; shared_error: SD
        of the error of the difference between propseg and deepseg that images of one contrast, copy and difficulty
        share.
    """
    from scipy.stats import spearmanr

    dice, _ = predict_held_out(cases)
    error = dice - cases.dice
    own = {method: np.array([row["kind"] == method for row in rows]) for method in OWN_KINDS}
    pairs: dict[tuple[str, ...], dict[str, float]] = {}
    for row, e in zip(rows, error, strict=True):
        if row["kind"] in OWN_KINDS:
            # the middle part of a phantom's name is its difficulty
            alike = row["image"].split("_")[1] if row["source"] == "phantom" else "real"
            key = (row["contrast"], row["variant"], alike, row["image"])
            pairs.setdefault(key, {})[row["kind"]] = float(e)
    whole = {key: pair["propseg"] - pair["deepseg"] for key, pair in pairs.items() if len(pair) == len(OWN_KINDS)}
    _, group = np.unique([" ".join(key[:3]) for key in whole], return_inverse=True)
    return {
        "spearman": round(float(spearmanr(dice, cases.dice).statistic), 3),
        "mean_abs_error": round(float(np.abs(error).mean()), 4),
        "coverage_without": _cover_kinds(rows, cases),
        "bias": {method: round(float(error[mine].mean()), 4) for method, mine in own.items()},
        "shared_error": round(shared_error(np.array(list(whole.values())), group), 4),
    }


def _cover_kinds(rows: Sequence[Case], cases: Cases) -> dict[str, float]:
    """Return the share of true Dice within the intervals of a model that was fitted without their kind of image."""
    names = np.array([kind_of_image(row) for row in rows])
    cover = {}
    for name in np.unique(names) if len(np.unique(names)) > 1 else ():
        own = cases.subset(names == name)
        model = fit_dice_predictor(cases.subset(names != name), {})
        low, high = model.interval(model.predict_dice(own.features))
        cover[str(name)] = round(float(((own.dice >= low) & (own.dice <= high)).mean()), 3)
    return cover


def describe_origin(images: Sequence[LabelledImage], folds: Path, n_phantoms: int, seed: int) -> dict[str, Any]:
    """Return the origin of the cases: people, images, phantoms, and the checksums of networks and code.

    Raises
    ------
    InputError
        If a fold's networks are missing.
    """
    files = [
        folds / f"fold{n}" / f"deepseg_{stage}.safetensors" for n in range(N_FOLDS) for stage in ("detect", "segment")
    ]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such weights; train the folds first (benchmarks/deepseg_train_folds.sh)")
    return {
        "people": sorted({item.subject for item in images}),
        "images": describe_images(images),
        "phantoms": {"seed": PHANTOM_SEED, "n": n_phantoms},
        "seed": seed,
        "networks": {f"{file.parent.name}/{file.name}": sha256_file(file) for file in files},
        "cases_code_sha256": digest_code("spineseg.training.quality.cases"),
    }


def collect_cases(
    images: Sequence[LabelledImage],
    folds: Path,
    n_phantoms: int,
    seed: int,
    jobs: int,
    log: Callable[[str], None],
    *,
    phantom_seed: int = PHANTOM_SEED,
) -> list[Case]:
    """Make the cases of labelled images and phantoms, in order.

    Parameters
    ----------
    images : labelled images
    folds : folder with fold0, fold1, ...: deepseg's networks, each trained without the people of its fold
    n_phantoms : number of phantoms
    seed : seed of faults and changes
    jobs : number of images processed at once
    log : called with a line per image
    phantom_seed : seed of the phantoms
    """
    fold = assign_folds(images)
    tasks: list[Task] = [
        (item, fold[item.subject], folds, [seed, n], (REAL_FAULTS, REAL_VARIANTS)) for n, item in enumerate(images)
    ]
    tasks += [
        ((phantom_seed, n), n % N_FOLDS, folds, [seed, n, phantom_seed], (PHANTOM_FAULTS, PHANTOM_VARIANTS))
        for n in range(n_phantoms)
    ]
    rows: list[Case] = []
    with ProcessPoolExecutor(jobs) as pool:
        for name, cases in pool.map(_work, tasks):
            rows += cases
            log(f"{name}: {len(cases)} masks")
    return rows


def _work(task: Task) -> tuple[str, list[Case]]:
    """Make the cases of one image, in a separate process."""
    from spineseg.deepseg.model import load_models

    item, fold, folds, seed, (n_faults, n_variants) = task
    known = make_phantom(*item) if isinstance(item, tuple) else read_known(item, fold)
    models = load_models(folds / f"fold{fold}", device="cpu", threads=1).for_contrast(known.contrast)
    return known.name, make_cases(known, models, np.random.default_rng(seed), n_faults, n_variants)


def weigh_cases(rows: Sequence[Case]) -> NDArray[np.float64]:
    """Return the weights of cases.

    All images of a source weigh the same, real images together as much as phantoms, and masks of methods more than
    masks with added faults.
    """
    names, image = np.unique([row["image"] for row in rows], return_inverse=True)
    own = np.array([OWN_WEIGHT if row["kind"] in OWN_KINDS else 1.0 for row in rows])
    weight = own / np.bincount(image, own, names.size)[image]
    is_real = np.array([row["source"] == "real" for row in rows])
    if is_real.any() and not is_real.all():
        weight[is_real] *= weight[~is_real].sum() / weight[is_real].sum()
    return weight / weight.mean()


def save_cases(path: Path, rows: Sequence[Case], origin: dict[str, Any]) -> None:
    """Write cases as TSV, and their origin beside them (.json)."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n", restval="nan")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_text(path, stream.getvalue())
    write_json(path.with_suffix(".json"), origin)


def load_cases(path: Path, origin: dict[str, Any] | None = None) -> list[Case] | None:
    """Read cases; None if there are none, or if their origin differs from `origin`."""
    import json

    if not path.is_file() or (origin and json.loads(path.with_suffix(".json").read_text()) != origin):
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))
