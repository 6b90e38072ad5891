"""``spineseg levels``: write disc labels from the positions that a person clicked in the quality-control page."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.errors import InputError
from spineseg.parameters import output_file

SUMMARY = """Turn the discs that were clicked in the quality-control page (key L, Save levels) into a label file.

The file lies on the image's grid and has one voxel per disc (3: C2/C3; 50: pontomedullary junction), in SCT's
convention. Use it with spineseg csa -discfile and -pmj. Proposals that nobody has confirmed are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("-i", type=Path, nargs="+", required=True, metavar="IMG", help="one or more images")
    parser.add_argument("-levels", type=Path, required=True, metavar="JSON", help="the file that the page saved")
    parser.add_argument(
        "-o", type=output_file, metavar="FILE", help="default <img>_label-discs_dlabel.nii.gz; one image only"
    )
    parser.add_argument("-ofolder", type=Path, metavar="DIR", help="folder for the labels, created if missing")


def run(args: argparse.Namespace) -> int:
    """Write the labels of each image."""
    from spineseg.levels.clicked import read_clicked, save_clicked
    from spineseg.volume import load_image
    from spineseg.writing import check_writable, file_stem

    if args.o and len(args.i) > 1:
        raise InputError(f"-o {args.o}: names one file, found {len(args.i)} images; use -ofolder")
    stems = [file_stem(image) for image in args.i]
    for position, image in enumerate(args.i):
        if stems[position] in stems[:position]:
            raise InputError(f"{image}: a second image of this name; give the images of each folder by themselves")
    clicked = read_clicked(args.levels)
    for image in args.i:
        stem = file_stem(image)
        named = [one for one in clicked if stem in (one.image, one.stem)]
        own = [one for one in named if one.is_of(image)]
        if named and not own:
            raise InputError(
                f"{args.levels}: expected levels of {image}, found those of another image of this name or of this one "
                "before it was changed; give the image that was clicked, or click its discs again"
            )
        if len(own) != 1:
            names = ", ".join(sorted(one.image for one in clicked)) or "no image"
            raise InputError(f"{args.levels}: expected levels of {image.name} once, found {names}; click its discs")
        target = args.o or (args.ofolder or Path()) / f"{stem}_label-discs_dlabel.nii.gz"
        check_writable(target, image, args.levels)
        save_clicked(target, own[0], load_image(image)[1])
        print(f"wrote {target}")
    return 0
