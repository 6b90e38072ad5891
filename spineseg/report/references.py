"""Count the references of a study by name and kind, and list those that were not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spineseg.decision.methods_text import REFERENCE_WORDS
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.references import ReferenceMask, read_references
from spineseg.studyfolder.tables import MetricsRow

UNUSED = "reference not used: "
"""Start of a message of metrics.tsv about a reference that was not used."""


@dataclass(frozen=True)
class ReferenceCount:
    """Number of masks with one name, kind and use."""

    n: int
    name: str
    kind: str
    use: str


@dataclass(frozen=True)
class References:
    """The references of a study: counts of those used, and those not used."""

    counts: list[ReferenceCount]
    unused: list[ReferenceMask]


def summarise_references(folder: StudyFolder, metrics: Sequence[MetricsRow]) -> References:
    """Summarise every mask of the references' folder; empty if the study has no such table.

    Parameters
    ----------
    folder : StudyFolder
    metrics : sequence of MetricsRow
        Rows of the stage, whose messages name references that do not fit their image.

    Raises
    ------
    InputError
        If the table is damaged.
    """
    found = read_references(folder.references) if folder.references.is_file() else []
    refused = {
        row.image.image_id: row.message.split(UNUSED, 1)[1].split("; ", 1)[0]
        for row in metrics
        if UNUSED in row.message
    }
    found = [replace(r, use="", reason=refused[r.image_id]) if r.use and r.image_id in refused else r for r in found]
    uses = {"truth": "the truth", "agreement": "agreement, no more"}
    used = Counter(
        (r.name or "named by the table of images", REFERENCE_WORDS.get(r.kind, r.kind), uses.get(r.use, r.use))
        for r in found
        if r.use
    )
    return References([ReferenceCount(n, *key) for key, n in used.most_common()], [r for r in found if not r.use])
