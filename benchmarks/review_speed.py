"""Measure the time from key to next image in a large quality-control page, with a script that presses the keys.

python benchmarks/review_speed.py [-entries 5000] [-images 60] [-pause 0.7] [-work DIR]

The program draws the images of synthetic people once and copies their entries under other names until there are enough.
It opens the page in headless Chromium from the disk and marks images one after the other, at a person's speed. The time
from the key until the next image's tiles are painted is measured inside the page.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import Browser
from report_study import make_study

from spineseg.report.qc import render_study
from spineseg.report.qc_page import build_index
from spineseg.report.review import StudyView

WATCH = """
window.times = [];
document.addEventListener('keydown', () => {
  const began = performance.now(), before = document.getElementById('name').textContent;
  const look = () => {
    const picture = document.querySelector('#canvas .tile');
    const url = picture && picture.style.backgroundImage.slice(5, -2);
    const isNext = document.getElementById('name').textContent !== before && url && picture !== window.lastTile;
    if (!isNext) { requestAnimationFrame(look); return; }
    window.lastTile = picture;
    const image = new Image();
    image.src = url;
    image.decode().then(() => requestAnimationFrame(() => window.times.push(performance.now() - began)));
  };
  requestAnimationFrame(look);
}, true);
"""
"""Script for the page that measures the time from each key to the frame in which the next image's tiles are painted."""


def make_page(folder: Path, n_entries: int, n_people: int) -> Path:
    """Write a page with many entries that show copies of the images of a few synthetic people."""
    study = make_study(folder, n_subjects=n_people)
    qc = folder / "page"
    drawn = [json.loads(path.read_text()) for path in render_study(StudyView(study), qc)]
    for number in range(n_entries - len(drawn)):
        entry = drawn[number % len(drawn)]
        name = f"{entry['id']}-{number:05d}"
        own = qc / "images" / name
        own.mkdir(parents=True)
        picture = dict(entry["picture"])
        for key, value in picture.items():
            if isinstance(value, str) and value.startswith("images/"):
                source = qc / value
                picture[key] = f"images/{name}/{source.name}"
                text = source.read_bytes()
                if source.suffix == ".js":
                    text = text.replace(entry["id"].encode(), name.encode())
                (own / source.name).write_bytes(text)
        copy = entry | {"id": name, "image_id": f"sub-{number:05d}_{entry['suffix']}", "subject": f"{number:05d}"}
        copy |= {"file": f"sub-{number:05d}_{entry['suffix']}.nii.gz", "picture": picture}
        (qc / "entries" / f"{name}.json").write_text(json.dumps(copy))
    return build_index(qc)


def review(page: Path, n_images: int, pause_s: float) -> list[float]:
    """Mark images one after the other and return the milliseconds from each key to the next picture."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            browser.open_as("AB", page)
            browser.run(WATCH)
            for n in range(n_images):
                browser.press("pfp"[n % 3])
                time.sleep(pause_s)
                browser.wait(f"return window.times.length > {n}")
            return list(map(float, browser.run("return window.times")))
        finally:
            browser.close()


def main() -> None:
    """Print the median and the 95th percentile of the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-entries", type=int, default=5000)
    parser.add_argument("-images", type=int, default=60, help="that are reviewed")
    parser.add_argument("-pause", type=float, default=0.7, help="seconds between two keys")
    parser.add_argument("-people", type=int, default=30, help="whose pictures are drawn, two each")
    parser.add_argument("-work", type=Path, default=Path("build/review_speed"))
    args = parser.parse_args()
    page = args.work / "page" / "index.html"
    if not page.is_file():
        page = make_page(args.work, args.entries, args.people)
    times = review(page, args.images, args.pause)
    late = statistics.quantiles(times, n=20)[-1]
    print(f"{args.entries} entries, {len(times)} images marked: from key to next picture {statistics.median(times):.0f}"
          f" ms (median), {late:.0f} ms (95th percentile)")  # fmt: skip


if __name__ == "__main__":
    main()
