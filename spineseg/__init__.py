"""Spinal cord segmentation by two methods, and the evidence for which one a study should keep."""


def __getattr__(name: str) -> str:
    if name == "__version__":  # asked of git, which start-up need not wait for
        from spineseg.version import find_version

        return find_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
