"""``spineseg csa``: cross-sectional area and shape of a mask, over all slices, by slice or by vertebral level."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spineseg.bids import image_stem
from spineseg.cli.sct_flags import add_sct_flags
from spineseg.errors import InputError, one_line
from spineseg.parameters import output_file

FILE_OPTIONS = ("vertfile", "discfile", "pmj", "centerline")
"""Options that take one file for all masks, or one file per mask."""

SPREADSHEETS = (".xls", ".xlsx", ".ods")
"""File extensions under which spreadsheet programs would not open a text table."""

MAX_APART_MM = 7.0
"""Largest median distance between a centerline and the middle of the mask. The cord is 7 mm wide in A-P, so a line
that is farther away has left it."""

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spineseg.levels.choice import JunctionWindow
    from spineseg.volume import NativeGrid, Volume

SUMMARY = """Measure cross-sectional area and shape of masks: mean and SD over all slices, by vertebral level,
or slice by slice.

Slices are numbered from 0 at the inferior end, whatever the file's orientation. Areas are
corrected for the angle between cord and slice. The column 'tilted' counts slices with an angle
above 30 degrees; slices above 45 degrees are left out of the means. Soft masks are measured by their
partial volumes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-i", type=Path, nargs="+", required=True, metavar="SEG", help="masks, binary or soft")
    parser.add_argument(
        "-o", type=output_file, metavar="FILE", help="write the table here: .csv with commas, else with tabs"
    )
    parser.add_argument("-label", type=int, metavar="N", help="label of the cord, if the masks have several labels")
    parser.add_argument("-append", type=int, choices=(0, 1), default=0, help="1: add the rows to FILE; default 0")
    parser.add_argument(
        "-perslice", type=int, choices=(0, 1), default=0, help="1: each slice, then mean and SD per level; default 0"
    )
    parser.add_argument("-angle-corr", type=int, choices=(0, 1), default=1, help="0: do not correct areas; default 1")
    parser.add_argument("-exact", action="store_true", help="exact projection in place of the product of two cosines")
    parser.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: no warnings; default 1")
    add_sct_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON; null where a value is not defined")
    place = parser.add_argument_group("which slices (if several options are given, slices that satisfy all)")
    place.add_argument("-z", metavar="A:B", help="slices, both ends included, such as 5:23 or 2,5,8:10")
    place.add_argument(
        "-vert",
        metavar="LEVELS",
        help="vertebral levels: 2:4, C2:C4, 2,3 or T1; C2/C3: the cord up to 10 mm above and below that disc",
    )
    place.add_argument("-perlevel", type=int, choices=(0, 1), default=0, help="1: one row per level; default 0")
    place.add_argument(
        "-vertfile", type=Path, nargs="+", metavar="FILE", help="image with the level of each cord voxel (C2: 2, T1: 8)"
    )
    place.add_argument(
        "-discfile",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="image with a voxel per disc; 3: C2/C3, above vertebra 3",
    )
    place.add_argument(
        "-pmj", type=Path, nargs="+", metavar="FILE", help="image with a voxel on the pontomedullary junction (PMJ)"
    )
    place.add_argument(
        "-pmj-distance",
        type=float,
        metavar="MM",
        help="distance of the middle of the slices below the PMJ, along the cord; without it, -pmj with -perslice 1"
        " gives the distance of every slice",
    )
    place.add_argument("-pmj-extent", type=float, metavar="MM", help="length of the cord to average; default 20")
    place.add_argument(
        *("-centerline", "-angle-corr-centerline"),
        type=Path,
        nargs="+",
        metavar="FILE",
        help="centerline for the angles, .nii.gz or .csv; default: computed from SEG",
    )


def run(args: argparse.Namespace) -> int:
    """Measure each mask, print or write the table."""
    from spineseg.metrics.table import TABLE_COLUMNS
    from spineseg.studyfolder.files import format_table
    from spineseg.writing import check_writable, write_text

    _check_arguments(args)
    if args.o:
        labels = (getattr(args, name) or () for name in FILE_OPTIONS)
        check_writable(args.o, *args.i, *(file for files in labels for file in files))
    names = [path.name for path in args.i]
    shown = names if len(set(names)) == len(names) else [str(path) for path in args.i]
    rows = [row | {"file": one_line(shown[n])} for n in range(len(args.i)) for row in _measure(args, n)]
    if args.json:
        rows = [{name: _to_json(row.get(name)) for name in TABLE_COLUMNS} for row in rows]
        text = json.dumps(rows, indent=2) + "\n"
    else:
        text = format_table(TABLE_COLUMNS, rows)
        if args.o and args.o.name.lower().removesuffix(".gz").endswith(".csv"):
            text = _to_csv(text)
    if args.o and args.append:
        _append(args.o, text)
    elif args.o:
        write_text(args.o, text)
    else:
        print(text, end="")
        return 0
    if args.v:
        print(f"wrote {one_line(args.o)}")
    return 0


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, before anything is read."""
    if args.o and image_stem(args.o.name.lower()) is not None:
        raise InputError(f"-o {args.o}: expected the name of a table (.csv or .tsv), found that of an image")
    if args.o and args.o.suffix.lower() in SPREADSHEETS:
        raise InputError(f"-o {args.o}: expected a table as text (.csv or .tsv); spreadsheets open .csv")
    if args.vert is not None and not args.vert.strip():
        raise InputError("-vert: expected levels such as 2:4, found an empty text")
    if args.vertfile and args.discfile:
        raise InputError("-vertfile and -discfile: expected one of them; choose the file that the levels come from")
    if (args.vert or args.perlevel) and not (args.vertfile or args.discfile):
        flag = f"-vert {args.vert}" if args.vert else "-perlevel 1"
        raise InputError(f"{flag}: expected a file of levels or discs, found none; add -vertfile or -discfile")
    is_by_slice = args.pmj and args.perslice and args.pmj_extent is None  # reports the distance of each slice
    if (args.pmj is None) != (args.pmj_distance is None) and not is_by_slice:
        raise InputError(
            "-pmj and -pmj-distance: expected both, found one; give the junction and the distance from it, "
            "or -pmj with -perslice 1 alone"
        )
    if args.pmj is None and args.pmj_extent is not None:
        raise InputError("-pmj-extent: expected -pmj and -pmj-distance with it, found neither; give both")
    if args.pmj_extent is None:
        from spineseg.levels.names import JUNCTION_EXTENT_MM

        args.pmj_extent = JUNCTION_EXTENT_MM
    if args.pmj_distance is not None and not (0 < args.pmj_extent < math.inf and math.isfinite(args.pmj_distance)):
        raise InputError(f"-pmj-extent {args.pmj_extent:g}: expected a length above 0 mm and a finite distance")
    if args.append and (not args.o or args.json or args.o.suffix == ".gz"):
        raise InputError("-append 1: expected -o with a .csv or .tsv file to add rows to")
    for name in FILE_OPTIONS:
        files = getattr(args, name)
        if files and len(files) not in (1, len(args.i)):
            raise InputError(f"-{name}: expected one file, or one per mask ({len(args.i)}), found {len(files)}")


def _measure(args: argparse.Namespace, n: int) -> list[dict[str, Any]]:
    """Return the rows of the n-th mask; warnings go to standard error."""
    from spineseg.levels.files import read_labels
    from spineseg.levels.names import parse_request
    from spineseg.levels.rows import measure_rows
    from spineseg.levels.slices import find_discs
    from spineseg.metrics.table import parse_slices
    from spineseg.volume import load_mask

    path = args.i[n]
    requests = [parse_request(args.vert)] if args.vert else []
    volume, grid = load_mask(path, label=args.label)
    notes = [*grid.notes, *_notes_of_sides(volume.data, path)]
    labels, values = _file_of(args.vertfile or args.discfile, n), None
    if labels is not None:
        if not volume.data.any():
            raise InputError(f"{path}: expected a cord whose levels can be measured, found an empty mask; check it")
        read, of_labels = read_labels(labels, like=grid)
        values, notes = read.data, [*notes, *of_labels.notes]
    for note in notes if args.v else ():
        print(f"spineseg csa: warning: {one_line(note)}", file=sys.stderr)
    rows = measure_rows(
        volume.data,
        volume.zooms,
        per=" and ".join(name for name in ("level", "slice") if getattr(args, f"per{name}")) or "request",
        requests=requests,
        all_asked=False,
        chosen=parse_slices(args.z, volume.shape[2]),
        discs=find_discs(values, volume.zooms, str(labels), grid) if args.discfile and values is not None else None,
        level_values=values if args.vertfile else None,
        junction=_read_junction(args, n, volume, grid),
        centers_mm=_read_centers(_file_of(args.centerline, n), volume, grid),
        correction="none" if not args.angle_corr else "exact" if args.exact else "product",
        source=str(labels),
    )
    if args.v:
        for note in dict.fromkeys(note for row in rows for note in row.get("note", "").split("; ") if note):
            together = ", so they are reported together" if "missing" in note else ""
            print(f"spineseg csa: warning: {one_line(path)}: {note}{together}", file=sys.stderr)
    return rows


def _notes_of_sides(mask: NDArray[np.float32], path: Path) -> list[str]:
    """Return a warning with the number of slices whose mask touches the edge of the image, where it may be cut."""
    import numpy as np

    from spineseg.volume.masks import HALF

    sides = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    cut = np.any([(side >= HALF).any(axis=0) for side in sides if side.size], axis=0)
    n = int(np.count_nonzero(cut))
    return [f"{path.name}: the mask touches the side of the field in {n} slices; their area may be cut"] if n else []


def _file_of(files: list[Path] | None, n: int) -> Path | None:
    """Return the file for the n-th mask: its own, or the one for all."""
    return None if not files else files[n if len(files) > 1 else 0]


def _read_junction(args: argparse.Namespace, n: int, volume: Volume, grid: NativeGrid) -> JunctionWindow | None:
    """Read the window below the pontomedullary junction, if the user asked for one."""
    from spineseg.levels.choice import JunctionWindow
    from spineseg.levels.files import load_junction

    path = _file_of(args.pmj, n)
    if path is None:
        return None
    point = load_junction(path, grid) * volume.zooms
    return JunctionWindow(point, args.pmj_distance, args.pmj_extent, str(path))


def _read_centers(path: Path | None, volume: Volume, grid: NativeGrid) -> Any:
    """Read a centerline as (K, 2) positions in mm by slice, NaN where it has none."""
    if path is None:
        return None
    import numpy as np

    from spineseg.centerline.curve import centerline_from_mask, load_centerline
    from spineseg.volume.masks import HALF

    line = load_centerline(path, grid)
    centers = np.full((volume.shape[2], 2), np.nan)
    centers[line.slices] = line.points_vox[:, :2] * volume.zooms[:2]
    own = centerline_from_mask(volume.data, volume.zooms, threshold=HALF)
    apart = np.linalg.norm(centers[own.slices] - own.points_vox[:, :2] * volume.zooms[:2], axis=1)
    if np.isfinite(apart).any() and (median := float(np.nanmedian(apart))) > MAX_APART_MM:
        raise InputError(
            f"{path}: expected the centerline of the mask, found one {median:.0f} mm from it; is it of another image, "
            "or a table in mm (-space phys) in place of voxels?"
        )
    return centers


def _to_json(value: Any) -> Any:
    """Return None for undefined values, because JSON has no NaN."""
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def _to_csv(text: str) -> str:
    """Convert a table with tabs to SCT's form: commas, and empty cells for unknown values."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows(["" if cell == "n/a" else cell for cell in line.split("\t")] for line in text.splitlines())
    return out.getvalue()


def _append(path: Path, text: str) -> None:
    """Append the rows of a table to a file; a lock keeps rows whole when several processes write at once."""
    import fcntl
    import os

    from spineseg.reading import decode_text

    header, _, rows = text.partition("\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            raw = stream.read()
            old = decode_text(raw, path)
            if old and old.partition("\n")[0] != header:
                raise InputError(f"{path}: expected the columns of this table, found others; choose another file")
            try:
                stream.write((("" if old.endswith("\n") else "\n") + rows if old else text).encode())
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(path, len(raw))  # no half row
                raise
    except OSError as error:
        raise InputError(f"{path}: cannot be added to ({error.strerror}); choose another file") from error
