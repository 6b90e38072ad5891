"""``spineseg doctor``: check that the installation is complete and works."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spineseg.errors import MachineError, advise
from spineseg.extras import EXTRA_OF, advise_extra
from spineseg.memory_limit import check_address_limit

SUMMARY = """Check the installation: libraries, weights, cores, memory and disk; run both methods on a synthetic image.

The exit code is 2 if something is missing or does not work. 'problems' lists what is wrong and what to do."""

MODULES = ("numpy", "scipy", "nibabel", "torch", "safetensors", "PIL", "jinja2")
"""Modules that every installation needs; the extras add more."""

PACKAGE = {"PIL": "pillow", "yaml": "pyyaml"}
"""Module to package, if their names differ."""

NEEDED_MIB = 500
"""Free space that a study of a few people needs for its masks, pages and temporary files."""

NEEDED_ADDRESS_MIB = 1100
"""Smallest limit of the address space with which all libraries load and both methods run; deepseg alone needs 900."""

TRIED_BYTES = 1 << 20
"""Size of the test file: about that of a mask, so that an exhausted quota is noticed as well."""

AGAIN = "install spineseg again"
"""What to do about a part that is missing or broken."""

LEAST_DICE = 0.8
"""Least Dice of either method on the synthetic image, whose cord is easy to see; both reach 0.9."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folders", nargs="*", help="further folders to check for room, such as that of the results")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("-quick", action="store_true", help="do not run the two methods (saves a few seconds)")


def run(args: argparse.Namespace) -> int:
    """Collect the facts and print them."""
    facts = collect_facts(args.folders, run_methods=not args.quick)
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            lines = (
                value or ["none"] if name == "problems" else [", ".join(value) if isinstance(value, list) else value]
            )
            for line in lines:
                print(f"{name:<24} {line}")
    return 2 if facts["problems"] else 0


def collect_facts(folders: Sequence[str] = (), *, run_methods: bool = True) -> dict[str, Any]:
    """Return versions, weights, cores, memory, disk, the result of both methods, and the problems found."""
    from spineseg.version import find_version

    facts: dict[str, Any] = {"spineseg": find_version(), "python": platform.python_version()}
    facts |= {"system": platform.platform()}
    problems = _check_places(facts, folders)  # first: torch ends the process if the working folder is gone
    tight = _check_memory_limit()  # also before torch: too little memory must not look like a broken library
    problems += tight
    if "free here" in facts and not tight:
        problems += _check_packages(facts)
        problems += _check_own_files()
    problems += _check_weights(facts)
    facts["cores"] = len(os.sched_getaffinity(0))
    facts["memory GiB"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    if run_methods and not problems:
        problems += _try_methods(facts)
    return facts | {"problems": problems}


def _check_memory_limit() -> list[str]:
    """Check whether a limit of the shell or the batch system leaves too little memory for all libraries."""
    try:
        check_address_limit(NEEDED_ADDRESS_MIB, "spineseg doctor, which loads every library,")
    except MachineError as error:
        return [str(error)]
    return []


def _check_packages(facts: dict[str, Any]) -> list[str]:
    """Import each library, because an installed one may still be broken, and let torch compute a product."""
    from importlib import metadata

    problems = []
    absent = set()
    for name in (*MODULES, *EXTRA_OF):
        package = PACKAGE.get(name, name)
        try:
            facts[package] = metadata.version(package)
            module = importlib.import_module(name)
            if package == "torch" and float((module.ones(2, 3) @ module.ones(3, 2)).sum()) != 12:
                raise ValueError("computes wrong sums")
        except metadata.PackageNotFoundError:
            absent.add(name)
            if name in EXTRA_OF:
                facts[package] = advise_extra(name)
            else:
                problems.append(f"{package} is not installed: {AGAIN}")
        except Exception as error:  # incompatible libraries fail in many ways
            if isinstance(error, ModuleNotFoundError) and error.name in absent:
                continue  # already listed as not installed
            problems.append(
                f"{package} does not work ({type(error).__name__}: {' '.join(str(error).split())[:80]}): {AGAIN}"
            )
    return problems


def _check_own_files() -> list[str]:
    """Compare the package's files with the checksums that pip recorded, if any, and import every command."""
    from importlib import metadata

    from spineseg.cli import COMMANDS
    from spineseg.provenance import WEIGHTS_DIR, sha256_file

    package, problems = WEIGHTS_DIR.parent, []
    try:
        listed = metadata.distribution("spineseg").files or []
    except metadata.PackageNotFoundError:
        listed = []
    for entry in listed:
        file = Path(str(entry.locate())).resolve()
        if entry.hash is None or entry.hash.mode != "sha256" or not file.is_relative_to(package.resolve()):
            continue
        if not file.is_file():
            problems.append(f"{file} is missing: {AGAIN}")
        elif entry.hash.value != urlsafe_b64encode(bytes.fromhex(sha256_file(file))).decode().rstrip("="):
            problems.append(f"{file} is not as it was installed: {AGAIN}")
    for module, _ in () if problems else COMMANDS.values():
        try:
            importlib.import_module(module)
        except ImportError as error:
            if (error.name or "").startswith("spineseg"):
                problems.append(f"{module} cannot be loaded ({error}): {AGAIN}")
    return problems


def _check_weights(facts: dict[str, Any]) -> list[str]:
    """Compare the shipped weights with their checksums."""
    from spineseg.errors import InputError
    from spineseg.provenance import WEIGHTS_DIR, WEIGHTS_SUFFIXES, sha256_file
    from spineseg.reading import read_text

    listing = WEIGHTS_DIR / "SHA256SUMS"
    try:
        rows = [line.split("  ") for line in read_text(listing, "the checksums of the weights", AGAIN).splitlines()]
    except InputError as error:
        return [str(error)]
    if not rows or any(len(row) != 2 for row in rows):
        return [f"{listing}: expected a checksum and a file in each line, found other text: {AGAIN}"]
    problems = []
    digests = {name: digest for digest, name in rows}
    for name in sorted(
        digests.keys() | {file.name for file in WEIGHTS_DIR.iterdir() if file.suffix in WEIGHTS_SUFFIXES}
    ):
        file = WEIGHTS_DIR / name
        if not file.is_file():
            problems.append(f"weights {name} are missing: {AGAIN}")
        elif sha256_file(file) != digests.get(name):
            problems.append(f"weights {name} are not those that were shipped: {AGAIN}")
    if not problems:
        from spineseg.methods.registry import OWN_METHODS

        for name, method in OWN_METHODS.items():
            facts[f"{name} weights"] = [f"{file} {digest[:12]}" for file, digest in method.hash_weights().items()]
    return problems


def _check_places(facts: dict[str, Any], folders: Sequence[str]) -> list[str]:
    """Write to the working folder, the temporary folder and the given folders, and check their free space."""
    problems = []
    temporary, wanted = Path(tempfile.gettempdir()), os.environ.get("TMPDIR")
    if wanted and Path(wanted).absolute() != temporary.absolute():
        problems.append(
            f"TMPDIR is {wanted}, which cannot be used; {temporary} is used instead: create {wanted}, or correct TMPDIR"
        )
    places = [("here", Path()), ("for temporary files", temporary)]
    places += [("for results", Path("results"))] if Path("results").is_dir() else []
    for words, folder in (*places, *((f"in {name}", Path(name)) for name in folders)):
        try:
            shown = folder.resolve(strict=True)
            free = shutil.disk_usage(folder).free >> 20
            facts[f"free {words}"] = f"{free} MiB in {shown}"
            if free < NEEDED_MIB:
                problems.append(f"{shown} has {free} MiB left, {NEEDED_MIB} are needed ({words}): free space")
                continue
            with tempfile.TemporaryFile(dir=folder) as stream:
                stream.write(bytes(TRIED_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            name = "the working folder" if folder == Path() else folder
            problems.append(f"{name}: cannot be written ({error.strerror}); {advise(error)}")
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
                dice = compute_dice(first.data, second.data)
            except Exception as error:  # the other method is tried all the same
                problems.append(f"{name} does not run on a synthetic image ({type(error).__name__}: {error}): {AGAIN}")
                continue
            facts[name] = f"Dice {dice:.3f} on a synthetic image, {time.perf_counter() - start:.1f} s"
            if not dice >= LEAST_DICE:
                problems.append(f"{name} has Dice {dice:.3f} on a synthetic image, expected {LEAST_DICE}: {AGAIN}")
    return problems
