"""Spinal cord segmentation by two methods, and the evidence for which one a study should keep.

>>> from spineseg import load, segment, measure
>>> segmentation = segment(load("sub-01_T2star.nii.gz"), "propseg")
>>> mask, = segmentation.save("sub-01_T2star_seg.nii.gz")
>>> row, = measure(segmentation)
>>> 40 < row["csa_mm2"] < 100
True
"""

import sys
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036  a checkout can be imported by any Python
    raise SystemExit("spineseg needs Python 3.11 or later, this is " + sys.version.split()[0])  # one line, no traceback

if TYPE_CHECKING:
    from spineseg.api import StudyFolder, compare, decide, load, load_mask, measure, segment

    __version__: str

__all__ = ["StudyFolder", "__version__", "compare", "decide", "load", "load_mask", "measure", "segment"]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # computed when used: it asks git, and start-up need not wait for that
        from spineseg.version import find_version

        return find_version()
    if name in __all__:
        import importlib

        # imported by name, so that the digest of a step's code leaves it out: no step depends on it
        return getattr(importlib.import_module("spineseg.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
