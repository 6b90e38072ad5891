"""Draw the figure of docs/correcting.md: an image that propseg gets wrong, and the result with each kind of help.

    python benchmarks/draw_corrections.py PHANTOMS -o docs/images [-work DIR]

PHANTOMS is the dataset of `spineseg phantom PHANTOMS --subjects 2 --seed 78 --contrasts dwi`. Everything goes through
the command line, as a user would do it; the drawings a user would make are taken from the phantom's exact mask. The
help files stay in the work folder. Prints the Dice coefficient and the status of every result.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage as ndi

from spineseg.bids import datatype_of
from spineseg.cli import main as run_spineseg
from spineseg.volume import NativeGrid, Volume, load_image, load_mask, save_volume, to_canonical

TILE_PX = 150
TILE_MM = 30.0
N_SLICES = 3
GREY_LEVELS = 24
GREEN, RED = (60, 220, 60), (255, 60, 60)


@dataclass(frozen=True)
class Case:
    """One image that goes wrong: its place in the dataset, and the kinds of help that are tried (title to flags)."""

    subject: str
    suffix: str
    contrast: str
    helps: dict[str, str]


CASE = Case(
    "sub-02",
    "dwi",
    "dwi",
    {
        "as it comes": "",
        "-init-centerline (NIfTI)": "-init-centerline {work}/line.nii.gz",
        "-init-centerline (CSV)": "-init-centerline {work}/line.csv",
        "-init-mask": "-init-mask {work}/three.nii.gz",
        "-mask-correction": "-mask-correction {work}/edge.nii.gz",
        "-d 50": "-d 50",
        "-alpha 100": "-alpha 100",
        "-max-area 90": "-max-area 90",
    },
)


def write_drawings(work: Path, reference: np.ndarray, grid: NativeGrid, zooms: tuple[float, ...]) -> None:
    """Write what a user would draw: five points of the centerline, three voxels in the cord, points of the edge."""
    slices = np.flatnonzero(reference.any(axis=(0, 1)))
    middle = np.array([[*np.argwhere(reference[:, :, k]).mean(axis=0), k] for k in slices])
    points = middle[np.linspace(0, len(slices) - 1, 5).round().astype(int)]
    _save_points(work / "line.nii.gz", points, reference.shape, grid)
    native = _to_native_index(points, grid)
    rows = ["{:.2f},{:.2f},{:.2f}".format(*point) for point in native]
    (work / "line.csv").write_text("\n".join(rows) + "\n")
    step = max(1, round(12 / zooms[2]))  # mm; the help says 5 to 15
    center = len(slices) // 2
    _save_points(work / "three.nii.gz", middle[[center - step, center, center + step]], reference.shape, grid)
    edge = np.zeros(reference.shape, np.uint8)
    for k in slices[:: max(1, round(5 / zooms[2]))]:  # every 5 mm
        edge[:, :, k] = reference[:, :, k] & ~ndi.binary_erosion(reference[:, :, k])
    save_volume(work / "edge.nii.gz", edge, grid)


def _save_points(path: Path, points: np.ndarray, shape: tuple[int, ...], grid: NativeGrid) -> None:
    """Mark the nearest voxel of each point."""
    drawn = np.zeros(shape, np.uint8)
    drawn[tuple(np.rint(points).astype(int).T)] = 1
    save_volume(path, drawn, grid)


def _to_native_index(points: np.ndarray, grid: NativeGrid) -> np.ndarray:
    """Return canonical indices as indices along the image's own axes."""
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape[:3]], indexing="ij"), axis=-1)
    own = [to_canonical(indices[..., axis].astype(np.float32), grid.affine).data for axis in range(3)]
    return np.column_stack([ndi.map_coordinates(values, points.T, order=1, mode="nearest") for values in own])


def draw_row(volume: Volume, mask: np.ndarray, reference: np.ndarray, title: str) -> Image.Image:
    """Draw a few slices side by side, with the mask's outline in red and the true outline in green."""
    slices = np.flatnonzero(reference.any(axis=(0, 1)))
    chosen = slices[np.linspace(0.2 * (len(slices) - 1), 0.8 * (len(slices) - 1), N_SLICES).round().astype(int)]
    row = Image.new("RGB", (TILE_PX * N_SLICES, TILE_PX + 18))
    for column, k in enumerate(chosen):
        row.paste(_draw_tile(volume, mask[:, :, k], reference[:, :, k], k), (column * TILE_PX, 18))
    ImageDraw.Draw(row).text((4, 3), title, fill="white")
    return row


def _draw_tile(volume: Volume, mask: np.ndarray, reference: np.ndarray, k: int) -> Image.Image:
    """Draw one slice around the cord, anterior up."""
    center = np.argwhere(reference).mean(axis=0).round().astype(int)
    half = [round(TILE_MM / 2 / volume.zooms[axis]) for axis in (0, 1)]
    box = tuple(slice(max(0, c - h), c + h) for c, h in zip(center, half, strict=True))
    values = volume.data[(*box, k)]
    low, high = np.percentile(values, (1, 99))
    grey = np.clip(255 * (values - low) / max(high - low, 1e-6), 0, 255).astype(np.uint8)

    def enlarge(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(picture.T[::-1]).resize((TILE_PX, TILE_PX), how))

    colors = np.repeat(enlarge(grey, Image.Resampling.BILINEAR)[..., None], 3, axis=2).copy()
    for part, color in ((reference, GREEN), (mask, RED)):
        large = enlarge(part[box].astype(np.uint8) * 255, Image.Resampling.NEAREST) > 127
        colors[ndi.binary_dilation(large) & ~large] = color
    return Image.fromarray(colors)


def draw_case(dataset: Path, case: Case, work: Path, out: Path) -> None:
    """Segment one image with every help and write one picture."""
    stem = f"{case.subject}_{case.suffix}"
    image = dataset / case.subject / datatype_of(case.suffix) / f"{stem}.nii.gz"
    volume, grid = load_image(image, contrast=case.contrast)
    label = dataset / "derivatives" / "labels" / case.subject / datatype_of(case.suffix) / f"{stem}_label-SC_seg.nii.gz"
    reference = load_mask(label, like=grid)[0].data > 0.5
    work.mkdir(parents=True, exist_ok=True)
    write_drawings(work, reference, grid, volume.zooms)
    rows = []
    for number, (title, flags) in enumerate(case.helps.items()):
        mask_path = work / f"mask{number}.nii.gz"
        command = ["propseg", "-i", str(image), "-c", case.contrast, "-o", str(mask_path), "-v", "0"]
        if run_spineseg(command + flags.format(work=work).split()):
            raise SystemExit(f"{stem}, {title}: failed")
        mask = load_mask(mask_path, like=grid)[0].data > 0.5
        dice = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
        status = json.loads(mask_path.with_name(f"mask{number}.json").read_text())["Status"]
        rows.append(draw_row(volume, mask, reference, f"{title}: Dice {dice:.2f}, {status}"))
        print(f"| {stem} | {title} | {dice:.3f} | {status} |", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    stack_rows(rows).save(out / f"correcting_{stem}.png", optimize=True)


def stack_rows(rows: list[Image.Image]) -> Image.Image:
    """Stack rows of equal size vertically, in few colours."""
    picture = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        picture.paste(row, (0, number * row.height))
    return picture.quantize(palette=_make_palette(), dither=Image.Dither.NONE)


def _make_palette() -> Image.Image:
    """Return a palette of grey levels and the two colours, which keeps the files small and the lines bright."""
    greys = np.linspace(0, 255, GREY_LEVELS).round().astype(int)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*np.repeat(greys, 3).tolist(), *GREEN, *RED])
    return palette


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phantoms", type=Path, help="dataset of `spineseg phantom`")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="folder for the picture")
    parser.add_argument("-work", type=Path, default=Path("corrections"), metavar="DIR", help="folder for the masks")
    args = parser.parse_args()
    draw_case(args.phantoms, CASE, args.work, args.o)


if __name__ == "__main__":
    main()
