"""The log of a training run as a table and a figure: loss, and Dice of the held-out images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd


class CsvLog:
    """A CSV file that gets a row per report; each row is also passed to `say`."""

    def __init__(self, path: Path, *, append: bool, say: Callable[[str], None] = print):
        self._path, self._say = path, say
        if not append:
            path.unlink(missing_ok=True)

    def __call__(self, row: dict[str, Any]) -> None:
        """Add a row."""
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        self._say("  ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))


def draw_log(log: Path, picture: Path) -> None:
    """Draw the columns of a training log over its steps.

    Parameters
    ----------
    log : as `CsvLog` writes it: step, elapsed_s, loss, and a column of Dice coefficients per held-out image
    picture : PNG to write
    """
    from matplotlib.figure import Figure

    table = pd.read_csv(log)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(table["step"], table["loss"], color="black")
    left.set(xlabel="step", ylabel="loss, mean since the last report", yscale="log")
    for name in table.columns[3:]:
        right.plot(table["step"], table[name], label=name)
    right.set(xlabel="step", ylabel="Dice of people held out, centred patches", ylim=(0.5, 1))
    if len(table.columns) > 3:
        right.legend(fontsize="x-small", loc="lower right")
    figure.savefig(picture, dpi=120)
