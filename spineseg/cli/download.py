"""``spineseg download``: fetch a public dataset; the only command that opens a connection."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUMMARY = """Download a public dataset and unpack it. Without a name, list the datasets.

To resume an interrupted download, repeat the same command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="dataset; without a name all are listed")
    parser.add_argument("-o", type=Path, default=Path(), metavar="DIR", help="folder for the dataset; default: here")
    parser.add_argument("-address", default="", metavar="URL", help="mirror: another address of the same archive")
    parser.add_argument("-sha256", metavar="HEX", help="stop unless the archive has this SHA-256")


def run(args: argparse.Namespace) -> int:
    """Download, and say what to do next."""
    from spineseg.download import DATASETS, fetch_dataset, read_record

    if args.name is None:
        for name, dataset in DATASETS.items():
            checksum = dataset.sha256 or "none published"
            print(f"{name}\n  {dataset.holds}\n  {dataset.address}\n  licence: {dataset.licence}; SHA-256: {checksum}")
        return 0
    folder = fetch_dataset(args.name, args.o, address=args.address, sha256=args.sha256, report=_Report())
    record = read_record(folder)
    print(f"{folder}: {record['Bytes']} bytes, SHA-256 {record['SHA256']}")
    images = sorted(folder.rglob("*.nii.gz"))
    if images:
        print(f"images: {len(images)}, such as {images[-1]}")
    return 0


class _Report:
    """Show the progress in one line that is rewritten on a terminal; print nothing elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int | None) -> None:
        if self._is_terminal:
            of = f" of {total / 1e6:.1f}" if total else ""
            end = "\n" if done == total else ""
            print(f"\r{done / 1e6:.1f}{of} MB", end=end, file=sys.stderr, flush=True)
