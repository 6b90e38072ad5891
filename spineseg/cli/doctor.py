"""``spineseg doctor``: is everything here that the tool needs?"""

from __future__ import annotations

import argparse
import json
import platform

SUMMARY = "Check the installation: versions, weights, cores, memory. Exit code 2 when something is missing."

PACKAGES = ("numpy", "scipy", "nibabel", "pandas", "torch", "safetensors", "h5py", "seaborn", "snakemake")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """Collect the facts and print them."""
    facts = collect_facts()
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:<14} {', '.join(value) if isinstance(value, list) else value}")
    return 2 if facts["missing"] else 0


def collect_facts() -> dict:
    """Return versions, weights and the machine's size, and what is missing."""
    import os
    from importlib import metadata

    from spineseg.methods.registry import OWN_METHODS
    from spineseg.version import find_version

    facts: dict = {"spineseg": find_version(), "python": platform.python_version(), "system": platform.platform()}
    missing = []
    for package in PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    for name, method in OWN_METHODS.items():
        weights = method.hash_weights()
        facts[f"{name} weights"] = [f"{file} {digest[:12]}" for file, digest in weights.items()]
        if not weights:
            missing.append(f"weights of {name}")
    facts["cores"] = len(os.sched_getaffinity(0))
    facts["memory GiB"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return facts | {"missing": missing}
