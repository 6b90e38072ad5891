"""The command that a stage of a study is run by, as its user types it: Snakemake's own, or ``spineseg study``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from spineseg.studyfolder.layout import Stage

VARIABLE = "SPINESEG_STUDY_COMMAND"
"""Set by ``spineseg study`` for the jobs that it starts: its command, with `ACTION` where the action stands."""

ACTION = "ACTION"

STAGE_ACTIONS = {Stage.PILOT: "pilot", Stage.STUDY: "run", Stage.ALL: "run -all-methods"}
"""Stage of a study to the action of ``spineseg study`` that runs it."""


@contextmanager
def typed_as(command: str) -> Iterator[None]:
    """Let the jobs that are started within know the command that was typed."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = command
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def stage_command(stage: Stage) -> str:
    """Return the command that runs a stage.

    Examples
    --------
    >>> stage_command(Stage.STUDY)
    'snakemake study'
    """
    typed = os.environ.get(VARIABLE)
    return typed.replace(ACTION, STAGE_ACTIONS[stage]) if typed else f"snakemake {stage}"
