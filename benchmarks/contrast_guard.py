"""How often the contrast guard is right, for images configured correctly and with the other polarity.

Usage: python benchmarks/contrast_guard.py BIDS_DIR...

Uses real images and those of `spineseg phantom --subjects 4 --seed 11`. An image is caught if it would be doubted
under every contrast of the other polarity, and falsely doubted if it is doubted under its own contrast.
"""

from __future__ import annotations

import argparse
import time
from functools import cache
from pathlib import Path

from spineseg.bids import image_stem
from spineseg.centerline.contrast_check import doubt_contrast, weigh_contrasts
from spineseg.centerline.detector import load_detector
from spineseg.contrasts import CONTRASTS, CORD_DARKER, SUFFIX_CONTRAST
from spineseg.study.sources import walk_folders
from spineseg.volume import load_image


def list_images(root: Path) -> list[tuple[Path, str]]:
    """Return every image of a known suffix with its contrast."""
    files = [path for _, _, folder in walk_folders(root) for path in sorted(folder.iterdir())]
    named = [(path, (image_stem(path) or "").rpartition("_")[2]) for path in files]
    return [(path, SUFFIX_CONTRAST[suffix]) for path, suffix in named if suffix in SUFFIX_CONTRAST]


def main() -> None:
    """Print one line per image and a summary per dataset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path, metavar="BIDS_DIR")
    load = cache(load_detector)
    for root in parser.parse_args().datasets:
        n = n_false = n_caught = n_edge = 0
        for path, contrast in list_images(root):
            volume, _ = load_image(path, contrast=contrast)
            start = time.process_time()
            found = weigh_contrasts(volume, load)
            seconds = time.process_time() - start
            is_false = bool(doubt_contrast(found, contrast))
            others = [other for other in CONTRASTS if CORD_DARKER[other] is not CORD_DARKER[contrast]]
            is_caught = all(doubt_contrast(found, other) for other in others)
            n, n_false, n_caught = n + 1, n_false + is_false, n_caught + is_caught
            n_edge += (found.darker_share > 0.5) is CORD_DARKER[contrast]
            verdict = "DOUBTED" if is_false else "" if is_caught else "not caught"
            print(
                f"{path.name:45} {contrast:4} lead {found.lead:+.2f}  darker {found.darker_share:.2f}"
                f"  guess {found.guess or '-':7} {seconds:.1f} s {verdict}",
                flush=True,
            )
        print(f"{root}: {n} images, {n_false} falsely doubted, {n_caught} caught, the edge is right in {n_edge}")


if __name__ == "__main__":
    main()
