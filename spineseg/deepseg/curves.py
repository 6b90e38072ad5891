"""The picture of a training run: loss, and Dice of the images that were held out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def draw_curves(log: Path, picture: Path) -> None:
    """Draw the columns of a training log over its steps.

    Parameters
    ----------
    log : Path
        As `training.CsvLog` writes it: step, elapsed_s, loss, and a column of Dice coefficients per held-out image.
    picture : Path
        PNG to write.
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
