"""Labelled images as arrays of slices in memory, prepared once before training starts.

A shard holds the slices of one image around the cord. They are larger than the network's input, so that they can
still be rotated, scaled and shifted. Values lie between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage as ndi
from torch import Tensor
from torch.nn import functional as F

from spineseg.deepseg.network import UNetConfig
from spineseg.deepseg.preprocess import extract_patches
from spineseg.errors import InputError
from spineseg.training.deepseg.synthetic import draw_cordless_slice, draw_mask_slice
from spineseg.training.labelled_images import LabelledImage
from spineseg.volume import NativeGrid, Volume, crop, load_image, load_mask

MARGIN = 1.6
"""Ratio of the shard's side to the input's side: the diagonal of the rotated input plus a shift still fits."""

THIN_MM = 2.0
"""Slice thickness below which images are also used with merged slices, to imitate thick acquisitions."""

MERGED_MM = (3.0, 5.0)
"""Thickness of merged slices, the usual range of axial protocols."""

MASK_FILES = "*_label-*_seg.nii.gz"
"""Names of masks without images: cord (SC) and, if they exist, fluid (CSF) and grey matter (GM)."""

TAILS = (0.01, 0.995)
"""Quantiles of a slice that are mapped to 0 and 1."""


@dataclass(frozen=True)
class Shard:
    """Slices of one source."""

    image: Tensor  # (n, 1, S, S) tensor of float16, 0 to 1; or uint8 labels of tissues where `painted`
    cord: Tensor  # (n, 1, S, S) tensor of float16, 0 to 1
    valid: Tensor  # (n, 1, S, S) tensor of uint8: 0 where the slice ends inside the square
    name: str
    subject: str
    weight: float  # How often it is drawn, relative to the others
    # (n,) tensor of int: consecutive slices of one acquisition share a number; slices that have no neighbours have
    # their own
    stack: Tensor
    slice_mm: Tensor  # (n,) tensor, mm: distance to the next slice of the stack
    painted: bool = False  # Whether `image` holds labels, which are painted each time they are drawn


def build_shard(item: LabelledImage, config: UNetConfig) -> Shard:
    """Load a labelled image and cut squares around the cord out of its labelled slices.

    Raises
    ------
    InputError
        If the reference is empty.
    """
    volume, grid = load_image(item.image, contrast=item.contrast)
    mask, _ = load_mask(item.reference, like=grid)
    if not mask.data.any():
        raise InputError(f"{item.reference}: expected a mask with cord, found an empty one; leave it out of the table")
    stacks = [(volume, mask)]
    dz = float(volume.zooms[2])
    if config.stage == "segment" and dz < THIN_MM:
        stacks += [_merge_slices(volume, mask, round(t / dz)) for t in MERGED_MM]
    return _join(stacks, config, item.image.name.split(".")[0], item.subject)


def build_template_shard(folder: Path, config: UNetConfig, *, below_only: bool = False) -> Shard:
    """Load a template with its cord, the only real image that extends below the conus, where roots look like cord.

    Parameters
    ----------
    folder : Path
        Folder with ``*_t2.nii.gz`` and ``*_cord.nii.gz``. A template is no single person, so no fold leaves it out.
    below_only : use only the slices below the cord

    Returns
    -------
    Shard; cord and the slices below it

    Raises
    ------
    InputError
        If the folder holds no such files.
    """
    images, masks = (sorted(folder.glob(f"*_{kind}.nii.gz")) for kind in ("t2", "cord"))
    if not images or not masks:
        raise InputError(f"-template {folder}: expected *_t2.nii.gz and *_cord.nii.gz, found no such pair")
    volume, grid = load_image(images[0], contrast="t2")
    mask, _ = load_mask(masks[0], like=grid)
    top = int(np.flatnonzero(mask.data.any(axis=(0, 1)))[-1])
    box = (slice(None), slice(None), slice(0, top + 1))  # where the brainstem begins above it is a matter of definition
    shard = _join([(crop(volume, box), crop(mask, box))], config, "template", "", empty=True)
    return select_slices(shard, shard.cord.amax((1, 2, 3)) == 0) if below_only else shard


def select_slices(shard: Shard, chosen: Tensor) -> Shard:
    """Return the shard with the chosen slices only; its weight depends on their number."""
    kept = {name: getattr(shard, name)[chosen] for name in ("image", "cord", "valid", "stack", "slice_mm")}
    return replace(shard, **kept, weight=float(np.sqrt(min(int(chosen.sum()), 60))))


def _join(
    stacks: list[tuple[Volume, Volume]], config: UNetConfig, name: str, subject: str, *, empty: bool = False
) -> Shard:
    """Make one shard of several versions of an image; its weight is set by the number of slices of the first."""
    parts = [_cut(*stack, config, empty=empty) for stack in stacks]
    image, cord, valid = (torch.cat(x) for x in zip(*parts, strict=True))
    counts = torch.tensor([len(part[0]) for part in parts])
    gaps = torch.tensor([float(volume.zooms[2]) for volume, _ in stacks])
    # weight by the square root of the number of slices: 200 slices teach more than 20, but not ten times as much
    weight = float(np.sqrt(min(len(parts[0][0]), 60)))
    number = torch.arange(len(parts)).repeat_interleave(counts)
    return Shard(image, cord, valid, name, subject, weight, number, gaps[number])


def _merge_slices(volume: Volume, mask: Volume, width: int) -> tuple[Volume, Volume]:
    """Average runs of `width` slices; a new run starts every `width` / 2 slices."""
    starts = np.arange(0, volume.shape[2] - width + 1, max(1, width // 2))
    affine = volume.affine.copy()
    affine[:3, 2] *= width
    merged = [np.stack([x.data[:, :, s : s + width].mean(axis=2) for s in starts], axis=2) for x in (volume, mask)]
    return Volume(merged[0], affine), Volume(merged[1], affine)


def _cut(volume: Volume, mask: Volume, config: UNetConfig, *, empty: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Cut squares around the cord's centroid out of every slice with cord; with `empty`, out of all slices."""
    centres, slices = _centroids(mask)
    if empty:  # without cord: around the position of the nearest cord
        everywhere = np.arange(volume.shape[2])
        centres = np.stack([np.interp(everywhere, slices, centres[:, axis]) for axis in (0, 1)], axis=1)
        slices = everywhere
    image = _squares(volume, centres, slices, config)
    cord = _squares(mask, centres, slices, config)
    valid = _inside(volume, centres, config.zoom_mm, shard_px(config))
    return scale_to_unit(image).half(), cord.half(), valid


def _centroids(mask: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return the cord's centroid, (n, 2) voxels, in each slice that holds cord, and those slices, (n,)."""
    area = mask.data.sum(axis=(0, 1))
    slices = np.flatnonzero(area > 0)
    kept = mask.data[:, :, slices]
    rows = (kept.sum(axis=1) * np.arange(mask.shape[0])[:, None]).sum(axis=0)
    columns = (kept.sum(axis=0) * np.arange(mask.shape[1])[:, None]).sum(axis=0)
    return np.stack([rows, columns], axis=1) / area[slices, None], slices


def _squares(volume: Volume, centres: np.ndarray, slices: np.ndarray, config: UNetConfig) -> Tensor:
    """Sample the shard's squares at the input's pixel size."""
    data = smooth_for(volume, config.zoom_mm)
    return extract_patches(data, volume.zooms, centres, slices, config.zoom_mm, shard_px(config))


def shard_px(config: UNetConfig) -> int:
    """Return the side of a shard's squares, a multiple of 8."""
    return 8 * round(MARGIN * config.patch_px / 8)


def smooth_for(volume: Volume, zoom_mm: float) -> np.ndarray:
    """Smooth in plane if the new pixel is larger than the old ones, to avoid aliasing."""
    sigma = [0.4 * np.sqrt(max(0.0, (zoom_mm / z) ** 2 - 1)) for z in volume.zooms[:2]]
    return ndi.gaussian_filter(volume.data, (*sigma, 0)) if max(sigma) > 0.2 else volume.data


def scale_to_unit(image: Tensor) -> Tensor:
    """Scale each slice so that its `TAILS` become 0 and 1; clip values at -0.2 and 1.5."""
    flat = image.flatten(1)
    low, high = (torch.quantile(flat, q, dim=1)[:, None, None, None] for q in TAILS)
    return ((image - low) / (high - low).clamp_min(1e-20)).clamp(-0.2, 1.5)


def _inside(volume: Volume, centres: np.ndarray, zoom_mm: float, size: int) -> Tensor:
    """Return which pixels of each square lie within the slice, (n, 1, size, size) of uint8."""
    offset = (np.arange(size) - (size - 1) / 2) * zoom_mm
    hits = []
    for axis in (0, 1):
        position = centres[:, axis, None] + offset / volume.zooms[axis]
        hits.append((position > -0.5) & (position < volume.shape[axis] - 0.5))
    return torch.from_numpy((hits[0][:, :, None] & hits[1][:, None, :]).astype(np.uint8))[:, None]


def build_mask_shard(folder: Path, config: UNetConfig, rng: np.random.Generator, weight: float) -> Shard:
    """Make label slices from a folder of masks without images (``*_label-SC_seg``, ``-CSF_``, ``-GM_``).

    Raises
    ------
    InputError
        If the folder holds no cord mask.
    """
    labels, cords = [], []
    for path in sorted(folder.glob("*_label-SC_seg.nii.gz")):
        mask, grid = load_mask(path)
        place = (*_centroids(mask), config)
        cord = _squares(mask, *place)[:, 0].numpy()
        csf, grey = (_optional_squares(path, grid, kind, place) for kind in ("CSF", "GM"))
        for n in range(len(cord)):
            drawn = draw_mask_slice(rng, cord[n], csf[n], grey[n], config.zoom_mm)
            labels.append(drawn[0])
            cords.append(drawn[1])
    if not labels:
        raise InputError(f"-masks {folder}: expected cord masks *_label-SC_seg.nii.gz, found none")
    return _painted(labels, cords, "masks", weight)


def _optional_squares(path: Path, grid: NativeGrid, kind: str, place: tuple) -> list[np.ndarray | None]:
    """Return the squares of the mask of another kind beside `path`; a list of None if there is no such file."""
    other = path.with_name(path.name.replace("label-SC", f"label-{kind}"))
    if not other.is_file():
        return [None] * len(place[1])
    return list(_squares(load_mask(other, like=grid)[0], *place)[:, 0].numpy())


def build_phantom_shard(
    n: int, config: UNetConfig, rng: np.random.Generator, weight: float, *, lumbar: bool = False
) -> Shard:
    """Make label slices from the phantom's anatomy, all along the spine or around its lower end."""
    from spineseg.phantom.anatomy import ANYWHERE, LUMBAR, draw_label_slices

    parts = LUMBAR if lumbar else ANYWHERE
    labels, cords = draw_label_slices(rng, n, shard_px(config), config.zoom_mm, parts)
    return _painted(labels, cords, "lumbar phantom" if lumbar else "phantom", weight)


def build_cordless_shard(n: int, config: UNetConfig, rng: np.random.Generator, weight: float) -> Shard:
    """Make label slices without a spine."""
    labels = [draw_cordless_slice(rng, shard_px(config), config.zoom_mm) for _ in range(n)]
    return _painted(labels, np.zeros((n, *labels[0].shape), np.float32), "cordless", weight)


def _painted(labels: list | np.ndarray, cords: list | np.ndarray, name: str, weight: float) -> Shard:
    image = torch.from_numpy(np.asarray(labels, dtype=np.uint8))[:, None]
    cord = torch.from_numpy(np.asarray(cords, dtype=np.float32))[:, None].half()
    n = len(image)
    # the slices are independent: none is another's neighbour
    return Shard(image, cord, torch.ones_like(image), name, "", weight, torch.arange(n), torch.ones(n), painted=True)


def centre_crop(stack: Tensor, size: int) -> Tensor:
    """Cut the middle `size` x `size` pixels out."""
    start = (stack.shape[2] - size) // 2
    return F.pad(stack, (-start,) * 4)[..., :size, :size]
