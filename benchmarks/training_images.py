"""List the images of the shipped networks' training by checksum, so that a study notices if it contains some of them.

    python benchmarks/training_images.py DATA [-o spineseg/weights/training_images.json]

DATA is the BIDS folder with the images of `benchmarks/recipe.tsv`. The list has size and checksums of the uncompressed
files, but no image data. The people of each training are in the provenance of networks, detectors and predictor.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import zlib
from pathlib import Path

from safetensors import safe_open

from spineseg.decision.training import LEARNERS, PREDICTION, TRAINING_IMAGES
from spineseg.provenance import WEIGHTS_DIR
from spineseg.quality.predictor import load_dice_predictor
from spineseg.writing import write_json

RECIPE = Path(__file__).with_name("recipe.tsv")

SAID_IN = {"deepseg": "provenance", "propseg": "about"}
"""Shipped files of each method whose provenance names the people of its training."""


def find_learners() -> dict[str, set[str]]:
    """Return the people in the training of each method's shipped files, and of the predicted Dice."""
    found = {PREDICTION: set(load_dice_predictor().provenance["people"])}
    for method, start in LEARNERS.items():
        found[method] = set()
        for path in sorted(WEIGHTS_DIR.glob(f"{start}*.safetensors")):
            with safe_open(path, "np") as stored:
                found[method] |= set(json.loads(stored.metadata()[SAID_IN[method]])["people"])
    return found


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", type=Path, default=TRAINING_IMAGES)
    args = parser.parse_args()
    learners, rows = find_learners(), []
    with RECIPE.open() as stream:
        recipe = list(csv.DictReader(stream, delimiter="\t"))
    for row in recipe:
        (path,) = args.data.rglob(row["image"])
        content = gzip.decompress(path.read_bytes())
        taught = [name for name, people in sorted(learners.items()) if row["subject"] in people]
        row = {"person": row["subject"], "bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"}
        rows.append(row | {"sha256": hashlib.sha256(content).hexdigest(), "taught": taught})
    write_json(args.o, rows)


if __name__ == "__main__":
    main()
