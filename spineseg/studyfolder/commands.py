"""The command that runs a stage of a study, as the user types it: ``snakemake`` or ``spineseg study``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from spineseg.studyfolder.layout import Stage

VARIABLE = "SPINESEG_STUDY_COMMAND"
"""Environment variable that ``spineseg study`` sets for its jobs: its command, with `ACTION` in place of the action."""

ACTION = "ACTION"

STAGE_ACTIONS = {Stage.PILOT: "pilot", Stage.STUDY: "run", Stage.ALL: "run -all-methods"}
"""Stage of a study to the action of ``spineseg study`` that runs it."""


@contextmanager
def typed_as(command: str) -> Iterator[None]:
    """Tell jobs that are started within this context which command was typed."""
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
