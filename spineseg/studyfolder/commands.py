"""The command that a stage of a study is run by, as its user types it: Snakemake's own, or ``spineseg study``."""

from __future__ import annotations

import os

from spineseg.studyfolder.layout import Stage

VARIABLE = "SPINESEG_STUDY_COMMAND"
"""Set by ``spineseg study`` for the jobs that it starts: its command, with `ACTION` where the action stands."""

ACTION = "ACTION"

STAGE_ACTIONS = {Stage.PILOT: "pilot", Stage.STUDY: "run", Stage.ALL: "run -all-methods"}
"""Stage of a study to the action of ``spineseg study`` that runs it."""


def stage_command(stage: Stage) -> str:
    """Return the command that runs a stage.

    Examples
    --------
    >>> stage_command(Stage.STUDY)
    'snakemake study'
    """
    typed = os.environ.get(VARIABLE)
    return typed.replace(ACTION, STAGE_ACTIONS[stage]) if typed else f"snakemake {stage}"
