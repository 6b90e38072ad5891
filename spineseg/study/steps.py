"""The steps of a study and the digest of each step's code: a step is recomputed when its own code changes."""

from __future__ import annotations

from spineseg.code_digest import PACKAGE, digest_code
from spineseg.contrasts import CONTRASTS

JUDGING = (
    *("weights/quality.json", "weights/deepseg_detect.safetensors", "weights/deepseg_segment.safetensors"),
    *(f"weights/optic_{contrast}.safetensors" for contrast in CONTRASTS),
)
"""Modules that predict the Dice and guess the contrast when masks are measured, whatever method made these."""

STEPS: dict[str, tuple[str, ...]] = {
    "index": ("spineseg.study.index", "spineseg.study.describe"),
    "perturb": ("spineseg.study.perturb",),
    "measure": ("spineseg.study.measure", *JUDGING),
    "gather": ("spineseg.study.gather",),
    "decide": ("spineseg.decision.from_files", "spineseg.decision.report_text"),
    "lock": ("spineseg.study.lock",),
    "keep": ("spineseg.study.keep",),
    "csa": ("spineseg.study.levels", "spineseg.study.change"),
    "draw": ("spineseg.report.qc",),
    "page": (
        "spineseg.report.qc_page",
        "report/templates/qc.html",
        "report/templates/qc.css",
        *sorted(f"report/templates/qc/{path.name}" for path in (PACKAGE / "report/templates/qc").glob("*.js")),
    ),
    "report": ("spineseg.report.page", "report/templates/report.html", "report/templates/report.css"),
    "demo": ("spineseg.phantom.dataset",),
}
"""Step to its modules and other files of the package. The code of the segmentation is recorded for each method
(`DeclaredMethod.made_by`)."""


def digest_step(step: str) -> str:
    """Return the digest of the code of a step."""
    return digest_code(*STEPS[step])
