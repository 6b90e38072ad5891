"""``spineseg doctor``: is everything here that the tool needs, and does it work?"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from spineseg.extras import EXTRA_OF, advise_extra

SUMMARY = """Check the installation: libraries, weights, cores, memory, disk; both methods on a synthetic image.

Exit code 2 when something is missing or does not work; 'problems' says what and what to do."""

MODULES = ("numpy", "scipy", "nibabel", "torch", "safetensors", "PIL", "jinja2")
"""What every installation has; the extras add theirs."""

PACKAGE = {"PIL": "pillow", "yaml": "pyyaml"}
"""Module to package, where their names differ."""

NEEDED_MIB = 500
"""Free space below which a study of a few people does not end: its masks, pages and temporary files."""

AGAIN = "install spineseg again"
"""What to do about a part that is missing or broken."""

LEAST_DICE = 0.8
"""Of both methods on the synthetic person, whose cord is plain; both reach 0.9."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("-quick", action="store_true", help="leave out the run of both methods (some seconds)")


def run(args: argparse.Namespace) -> int:
    """Collect the facts and print them."""
    facts = collect_facts(run_methods=not args.quick)
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:<24} {', '.join(value) or 'none' if isinstance(value, list) else value}")
    return 2 if facts["problems"] else 0


def collect_facts(*, run_methods: bool = True) -> dict[str, Any]:
    """Return versions, weights, the machine's size, how the methods do, and what is wrong."""
    import os

    from spineseg.version import find_version

    facts: dict[str, Any] = {"spineseg": find_version(), "python": platform.python_version()}
    facts |= {"system": platform.platform()}
    problems = _check_packages(facts)
    problems += _check_weights(facts)
    facts["cores"] = len(os.sched_getaffinity(0))
    facts["memory GiB"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    problems += _check_disks(facts)
    if run_methods and not problems:
        problems += _try_methods(facts)
    return facts | {"problems": problems}


def _check_packages(facts: dict[str, Any]) -> list[str]:
    """Import each library, for one that is there may still be broken; and let torch compute."""
    from importlib import metadata

    problems = []
    for name in (*MODULES, *EXTRA_OF):
        package = PACKAGE.get(name, name)
        try:
            facts[package] = metadata.version(package)
            module = importlib.import_module(name)
            if package == "torch" and float((module.ones(2, 3) @ module.ones(3, 2)).sum()) != 12:
                raise ValueError("computes wrong sums")
        except metadata.PackageNotFoundError:
            if name in EXTRA_OF:
                facts[package] = advise_extra(name)
            else:
                problems.append(f"{package} is not installed: {AGAIN}")
        except Exception as error:  # libraries that do not fit each other fail in many ways
            problems.append(
                f"{package} does not work ({type(error).__name__}: {' '.join(str(error).split())[:80]}): {AGAIN}"
            )
    return problems


def _check_weights(facts: dict[str, Any]) -> list[str]:
    """Compare the shipped weights with their checksums."""
    from spineseg.methods.registry import OWN_METHODS
    from spineseg.provenance import WEIGHTS_DIR, sha256_file
    from spineseg.reading import read_text

    listing = WEIGHTS_DIR / "SHA256SUMS"
    problems = []
    for line in read_text(listing, "the checksums of the weights", "install spineseg again").splitlines():
        digest, _, name = line.partition("  ")
        file = WEIGHTS_DIR / name
        if not file.is_file():
            problems.append(f"weights {name} are missing: install spineseg again")
        elif sha256_file(file) != digest:
            problems.append(f"weights {name} are not those that were shipped: {AGAIN}")
    for name, method in OWN_METHODS.items():
        facts[f"{name} weights"] = [f"{file} {digest[:12]}" for file, digest in method.hash_weights().items()]
    return problems


def _check_disks(facts: dict[str, Any]) -> list[str]:
    """Write into the working and the temporary folder, and see what room they have."""
    from spineseg.errors import InputError
    from spineseg.writing import check_writable

    problems = []
    for words, folder in (("here", Path.cwd()), ("for temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free >> 20
        facts[f"free {words}"] = f"{free} MiB in {folder}"
        if free < NEEDED_MIB:
            problems.append(f"{folder} has {free} MiB left, {NEEDED_MIB} are needed ({words}): free space")
            continue
        try:
            check_writable(folder / "spineseg-doctor")
        except InputError as error:
            problems.append(str(error))
    return problems


def _try_methods(facts: dict[str, Any]) -> list[str]:
    """Segment a synthetic person by both methods and compare the masks with the truth."""
    from spineseg.cli import main
    from spineseg.methods.registry import OWN_METHODS
    from spineseg.metrics.overlap import compute_dice
    from spineseg.phantom.dataset import write_dataset
    from spineseg.volume import load_mask

    problems = []
    with tempfile.TemporaryDirectory(prefix="spineseg-") as place:
        image = write_dataset(place, 1, 1, contrasts=("T2star",), hard="none")[0]
        truth = next(Path(place).glob("derivatives/labels/**/*_seg.nii.gz"))
        for name in OWN_METHODS:
            start, mask = time.perf_counter(), Path(place) / f"{name}.nii.gz"
            try:
                code = main([name, "-i", str(image), "-c", "t2s", "-o", str(mask), "-v", "0"])
                if code:
                    raise ValueError(f"exit code {code}")
                first, second = load_mask(mask)[0], load_mask(truth)[0]
                dice = compute_dice(first.data >= 0.5, second.data >= 0.5)
            except Exception as error:  # whatever is broken, the others are still tried
                problems.append(f"{name} does not run on a synthetic image ({type(error).__name__}: {error}): {AGAIN}")
                continue
            facts[name] = f"Dice {dice:.3f} on a synthetic image, {time.perf_counter() - start:.1f} s"
            if not dice >= LEAST_DICE:
                problems.append(f"{name} has Dice {dice:.3f} on a synthetic image, expected {LEAST_DICE}: {AGAIN}")
    return problems
