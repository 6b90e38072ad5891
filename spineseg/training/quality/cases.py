"""Masks with known Dice and their features, for fitting and scoring the prediction of quality.

Real images are used as they are, with less contrast, and with noise. Each is segmented by both methods, with networks
that were not trained on the person, and faults are added to the references. Phantoms are used in the same way, with
exact references.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.contrasts import CORD_DARKER, SUFFIX_CONTRAST
from spineseg.metrics.compare import compute_area_error
from spineseg.metrics.overlap import compute_dice, labelled_slices
from spineseg.metrics.shape import compute_shape
from spineseg.phantom.dataset import HARD_CASES, SUFFIXES, make_image
from spineseg.quality.features import PreparedImage, measure_features, prepare_image
from spineseg.training.labelled_images import N_FOLDS, LabelledImage
from spineseg.training.quality.degrade import FAULTS, apply_fault
from spineseg.volume import Volume, load_image, load_mask, mask_box, to_canonical

if TYPE_CHECKING:
    from spineseg.deepseg.weights import Models

Case = dict[str, Any]
Mask = NDArray[np.bool_]

CANAL_MM, FADE_MM = 9.0, 3.0
"""Distance from the cord up to which tissue counts as canal, and distance over which a change of contrast fades out."""


@dataclass(frozen=True)
class KnownImage:
    """An image whose cord is known."""

    source: str  # {"real", "phantom"}
    person: str
    name: str
    contrast: str
    fold: int  # Fold whose networks were not trained on the person
    volume: Volume
    reference: Mask  # (I, J, K) of bool


def read_known(item: LabelledImage, fold: int) -> KnownImage:
    """Read one labelled image."""
    volume, grid = load_image(item.image, contrast=item.contrast)
    reference = load_mask(item.reference, like=grid)[0].data >= 0.5
    return KnownImage("real", item.subject, item.image.name.split(".")[0], item.contrast, fold, volume, reference)


PHANTOM_SUFFIXES = (*SUFFIXES, "bold")
"""Contrasts of the phantoms, used in turn."""


def make_phantom(seed: int, index: int) -> KnownImage:
    """Make the phantom of an index: contrasts and difficulties in turn."""
    suffix = PHANTOM_SUFFIXES[index % len(PHANTOM_SUFFIXES)]
    hard = ("none", *HARD_CASES)[(index // len(PHANTOM_SUFFIXES)) % (len(HARD_CASES) + 1)]
    image = make_image(seed, index, suffix, hard=hard)
    data = image.data.astype(np.float32)
    if data.ndim == 4:
        from spineseg.phantom.contrast import B_VALUES

        data = data[..., np.array(B_VALUES) > 50].mean(axis=3)
    volume = to_canonical(data, image.acquisition.affine)
    reference = to_canonical(image.cord_fraction >= 0.5, image.acquisition.affine).data
    name = f"phantom-{seed}-{index:03d}_{hard}_{suffix}"
    return KnownImage("phantom", name, name, SUFFIX_CONTRAST[suffix], index % N_FOLDS, volume, reference)


def lower_contrast(known: KnownImage, factor: float) -> Volume:
    """Scale the contrast between cord and fluid by a factor.

    Voxels in and around the canal that differ from the cord's median in the direction of the fluid are scaled.
    """
    data = known.volume.data.astype(np.float64)
    weight = np.clip((CANAL_MM + FADE_MM - _distance(known.reference, known.volume.zooms)) / FADE_MM, 0, 1)
    difference = data - np.median(data[known.reference])
    fluid = difference > 0 if CORD_DARKER[known.contrast] else difference < 0
    changed = data + np.where(fluid, difference * weight * (factor - 1), 0.0)
    return Volume(changed.astype(np.float32), known.volume.affine)


def _distance(mask: Mask, zooms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance to a mask, mm, within the reach of the change of contrast; infinite beyond."""
    box = mask_box(mask, np.ceil((CANAL_MM + FADE_MM) / zooms).astype(int).tolist())
    away = np.full(mask.shape, np.inf)
    away[box] = ndi.distance_transform_edt(~mask[box], sampling=zooms)
    return away


def add_noise(known: KnownImage, share: float, rng: np.random.Generator) -> Volume:
    """Add normal noise whose SD is a share of the difference between cord and its surroundings."""
    data = known.volume.data
    near = ndi.binary_dilation(known.reference, iterations=3) & ~known.reference
    around = np.percentile(data[near], 90 if CORD_DARKER[known.contrast] else 10)
    span = abs(float(around) - float(np.median(data[known.reference])))
    return Volume((data + rng.normal(0, share * span, data.shape)).astype(np.float32), known.volume.affine)


VARIANTS = ("low contrast", "noise", "both")
"""Harder copies of an image."""


def vary_image(known: KnownImage, variant: str, rng: np.random.Generator) -> Volume:
    """Return a harder copy of an image, with a random degree of change; `variant` is one of `VARIANTS`."""
    if variant == "low contrast":
        return lower_contrast(known, rng.uniform(0.15, 0.5))
    if variant == "noise":
        return add_noise(known, rng.uniform(0.2, 0.8), rng)
    paler = replace(known, volume=lower_contrast(known, rng.uniform(0.2, 0.6)))
    return add_noise(paler, rng.uniform(0.2, 0.6), rng)


def score_dice(mask: Mask, reference: Mask) -> float:
    """Return the Dice coefficient in the slices that the reference labels, as in metrics.tsv."""
    labelled = labelled_slices(reference)
    return compute_dice(mask[:, :, labelled], reference[:, :, labelled])


def whole_cord(reference: Mask, mask: Mask) -> Mask:
    """Join the reference with a method's mask in the slices beyond it.

    Dice is computed in labelled slices only. Otherwise a reference that ends early would look like a mask that ends
    early.
    """
    labelled = labelled_slices(reference)
    return np.where(labelled, reference, mask) if labelled.any() else reference


def segment_both(volume: Volume, contrast: str, models: Models) -> dict[str, Mask]:
    """Segment with propseg and with deepseg by the given networks."""
    from spineseg.deepseg import segment as deepseg
    from spineseg.propseg import segment as propseg

    return {
        "propseg": propseg.segment_cord(volume, contrast).cord_mask,
        "deepseg": deepseg.segment_cord(volume, contrast, models=models).cord_mask,
    }


def make_cases(
    known: KnownImage, models: Models, rng: np.random.Generator, n_faults: int, n_variants: int
) -> list[Case]:
    """Make the cases of one image: masks of both methods on it and on harder copies, and faulty references.

    Parameters
    ----------
    models : networks that were not trained on the person, for deepseg's masks and for the features
    n_faults : number of faulty masks, of as many kinds as possible
    n_variants : number of harder copies, up to three
    """
    cases = []
    masks = segment_both(known.volume, known.contrast, models)
    image = prepare_image(known.volume, known.contrast, models)
    for name, mask in masks.items():
        cases.append(describe_case(known, image, "original", name, mask))
    good = whole_cord(known.reference, masks["deepseg"])
    kinds = list(FAULTS)
    for number in range(n_faults):
        kind = kinds[number % len(kinds)] if n_faults >= len(kinds) else kinds[rng.integers(len(kinds))]
        base = good if rng.random() < 0.7 or not masks["propseg"].any() else masks["propseg"]
        faulty = apply_fault(kind, base, known.volume.zooms, rng)
        cases.append(describe_case(known, image, "original", kind, faulty))
    cases.append(describe_case(known, image, "original", "reference", good))
    for variant in rng.permutation(VARIANTS)[:n_variants]:
        volume = vary_image(known, str(variant), rng)
        image = prepare_image(volume, known.contrast, models)
        for name, mask in segment_both(volume, known.contrast, models).items():
            cases.append(describe_case(known, image, str(variant), name, mask))
        kind = kinds[rng.integers(len(kinds))]
        faulty = apply_fault(kind, good, volume.zooms, rng)
        cases.append(describe_case(known, image, str(variant), kind, faulty))
    return cases


def describe_case(known: KnownImage, image: PreparedImage, variant: str, kind: str, mask: Mask) -> Case:
    """Return one mask's identity, Dice and features; an empty mask (see its status) has no features."""
    is_empty = not mask.any()
    identity = {
        "source": known.source,
        "person": known.person,
        "image": known.name,
        "contrast": known.contrast,
        "fold": known.fold,
        "variant": variant,
        "kind": kind,
        "status": "empty" if is_empty else "ok",
        "dice": score_dice(mask, known.reference),
    }
    if is_empty:
        return identity
    shape = compute_shape(mask, image.volume.zooms)
    error = compute_area_error(shape, compute_shape(known.reference, image.volume.zooms))
    return identity | {"csa_error_pct": error} | measure_features(image, mask, shape)
