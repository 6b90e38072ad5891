"""Options that are accepted so that scripts written for SCT run; they have no effect here."""

from __future__ import annotations

import argparse


def add_sct_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``-r``: SCT keeps temporary files with ``-r 0``; there are none here."""
    parser.add_argument(
        "-r",
        type=int,
        choices=(0, 1),
        default=1,
        metavar="0|1",
        help="accepted as in SCT, without effect: no temporary files are left; default 1",
    )
