"""Libraries that only a part of the package needs, and the extra of the installation that includes each."""

from __future__ import annotations

EXTRA_OF = {
    **dict.fromkeys(("snakemake", "pandas", "seaborn", "matplotlib", "jsonschema", "yaml", "pygments"), "study"),
    "h5py": "sct",
    "onnx": "onnx",
    "threadpoolctl": "train",
    "snakemake_executor_plugin_slurm": "cluster",
}
"""Module to extra, as in pyproject.toml."""


def advise_extra(module: str | None) -> str:
    """Return how to install a missing module; empty if no extra includes it.

    Examples
    --------
    >>> advise_extra("pandas.core")
    "pandas is not installed; pip install 'spineseg[study]' brings it"
    """
    name = (module or "").partition(".")[0]
    extra = EXTRA_OF.get(name)
    return f"{name} is not installed; pip install 'spineseg[{extra}]' brings it" if extra else ""


def advise_installation(error: ImportError) -> str:
    """Return advice on a library that is missing or does not load; empty for a part of this package.

    Examples
    --------
    >>> advise_installation(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    "numpy cannot be loaded (No module named 'numpy'); install spineseg again, 'spineseg doctor' checks it"
    """
    name = (error.name or "a library").partition(".")[0]
    reason = " ".join(str(error).split())[:120]
    again = "install spineseg again, 'spineseg doctor' checks it"
    return "" if name == "spineseg" else f"{name} cannot be loaded ({reason}); {again}"
