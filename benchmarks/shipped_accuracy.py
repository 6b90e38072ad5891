"""Print Dice and area error of both methods, as shipped, on images with a reference.

    python benchmarks/shipped_accuracy.py -data ../shared/data/labelled_epi.tsv

The README's numbers for fMRI. Scores are taken in the slices that the reference labels. The shipped networks and
detectors may have seen the people: the model cards name them. `deepseg_crossval.py` and `propseg_crossval.py` score
people who were held out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from spineseg import load, load_mask, segment
from spineseg.metrics.compare import compare_with_reference
from spineseg.metrics.shape import compute_shape
from spineseg.training.labelled_images import load_manifest
from spineseg.writing import file_stem

METHODS = ("propseg", "deepseg")


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table with a row per image and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, required=True, help="table of images with references, as for training")
    images = load_manifest(parser.parse_args(argv).data)
    print("| image | method | Dice | CSA error |\n| --- | --- | --- | --- |")
    for item in images:
        image = load(item.image, contrast=item.contrast)
        reference = load_mask(item.reference, like=image)
        for method in METHODS:
            mask, zooms = segment(image, method).cord_mask, image.volume.zooms
            scores = compare_with_reference(mask, compute_shape(mask, zooms), reference.cord_mask, zooms)
            print(f"| {file_stem(item.image)} | {method} | {scores['dice']:.3f} | {scores['csa_error_pct']:+.1f} % |")


if __name__ == "__main__":
    main()
