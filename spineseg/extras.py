"""Libraries that only a part of the package needs, and the extra of the installation that brings each."""

from __future__ import annotations

EXTRA_OF = {
    **dict.fromkeys(("snakemake", "pandas", "seaborn", "matplotlib", "jsonschema", "yaml", "pygments"), "study"),
    "h5py": "sct",
    "onnx": "onnx",
    "threadpoolctl": "train",
    "snakemake_executor_plugin_slurm": "cluster",
}
"""Module to extra, as pyproject.toml has them."""


def advise_extra(module: str | None) -> str:
    """Return how to install a module that is missing; an empty string where no extra brings it.

    Examples
    --------
    >>> advise_extra("pandas.core")
    "pandas is not installed; pip install 'spineseg[study]' brings it"
    """
    name = (module or "").partition(".")[0]
    extra = EXTRA_OF.get(name)
    return f"{name} is not installed; pip install 'spineseg[{extra}]' brings it" if extra else ""
