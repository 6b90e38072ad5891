"""Progress of a study: which masks a run needs, and which of them exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.study.choices import find_exceptions
from spineseg.study.configuration import StudyConfig
from spineseg.study.index import index_images
from spineseg.study.lock import find_frozen_pilot
from spineseg.studyfolder.decisions import find_membership, study_methods
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.locks import KeptMethods, find_lock
from spineseg.studyfolder.manifests import read_manifest
from spineseg.studyfolder.sidecars import MadeBy, read_sidecar

CHUNK_SIZE = 10
"""Images of one job if no profile says otherwise, as in rules/common.smk. It only affects estimates."""


@dataclass(frozen=True)
class WantedMask:
    """A mask that a run needs, whether it exists yet or not."""

    image: StudyImage
    method: str


def list_images(folder: StudyFolder, config: StudyConfig) -> tuple[list[StudyImage], dict[str, str]]:
    """Return the included images of a study as its next run will list them, and image to chunk; write nothing.

    Raises
    ------
    InputError
        If the source cannot be read, or nothing is left to segment.
    """
    earlier = find_membership(folder)
    images, membership = index_images(config, CHUNK_SIZE, earlier, find_frozen_pilot(config, folder, earlier))
    return [image for image in images if image.included], dict(membership.chunks)


def coming_methods(folder: StudyFolder, config: StudyConfig) -> KeptMethods:
    """Return the method that a study continues with, or one for each contrast; none before the decision."""
    if config.override and find_lock(folder) is None:
        return KeptMethods(config.override.method)
    return study_methods(folder)


def latest_stage(folder: StudyFolder) -> Stage | None:
    """Return the furthest stage that has ever been finished; None before the pilot's decision."""
    if folder.report(Stage.STUDY).is_file():
        return Stage.STUDY
    if folder.report(Stage.ALL).is_file():
        return Stage.ALL
    return Stage.PILOT if folder.decision.is_file() else None


def wanted_masks(
    images: Iterable[StudyImage], config: StudyConfig, stage: Stage, kept: KeptMethods
) -> list[WantedMask]:
    """Return the masks that a run of a stage needs.

    Parameters
    ----------
    images : iterable of StudyImage
        Included images.
    config : StudyConfig
    stage : Stage
    kept : KeptMethods
        The study's methods, if they are known; until then the last method of the configuration is assumed.
    """
    wanted = []
    images = list(images)
    # masks of the dataset exist already
    chosen = {i: c.method for i, c in find_exceptions(config, kept, images).items() if c.method in config.methods}
    for image in images:
        if stage == Stage.PILOT and not image.pilot:
            continue
        if stage == Stage.STUDY and not image.pilot:
            own = chosen.get(image.image_id) or kept.of(image.contrast)
            names: Sequence[str] = [own or list(config.methods)[-1]]
        else:
            names = list(config.methods)
        wanted += [WantedMask(image, name) for name in names]
    return wanted


@dataclass
class MaskCount:
    """Count the existing masks, by their manifests or, in unfinished chunks, by their sidecars.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    wanted : list of WantedMask
    chunk_of : dict
        Image to chunk.
    since_ns : int
        A sidecar written after this time counts. An earlier one counts if the present code, weights and parameters made
        it.
    """

    folder: StudyFolder
    config: StudyConfig
    wanted: Sequence[WantedMask]
    chunk_of: dict[str, str]
    since_ns: int
    _made_by: dict[str, MadeBy] = field(default_factory=dict)
    _manifests: dict[Path, tuple[int, dict[str, str]]] = field(default_factory=dict)
    _sidecars: dict[Path, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._made_by = {name: method.made_by() for name, method in self.config.methods.items()}

    def statuses(self) -> Counter[str]:
        """Return the number of existing masks by status."""
        return Counter(status for status in map(self.status_of, self.wanted) if status)

    def status_of(self, one: WantedMask) -> str:
        """Return the status of a mask; empty if it does not exist."""
        path = self.folder.manifest(one.method, self.chunk_of.get(one.image.image_id, ""))
        entries = self._read_manifest(path, one.method)
        return self._sidecar_status(one) if entries is None else entries.get(one.image.image_id, "")

    def _read_manifest(self, path: Path, method: str) -> dict[str, str] | None:
        """Return image to status from a manifest by the present code; None if there is none."""
        if (changed := _changed_ns(path)) is None:
            return None
        known = self._manifests.get(path)
        if known is None or known[0] != changed:
            entries: dict[str, str] = {}
            try:
                manifest = read_manifest(path)
                if not manifest.made_by.changes_to(self._made_by[method]):
                    entries = {entry.image_id: entry.status for entry in manifest.images}
            except (InputError, FileNotFoundError):  # damaged, or removed meanwhile; it is computed again
                entries = {}
            known = (changed, entries)
            self._manifests[path] = known
        return known[1] or None

    def _sidecar_status(self, one: WantedMask) -> str:
        """Return the status in a mask's sidecar; empty if the sidecar does not count."""
        mask = self.folder.mask(one.image, one.method)
        path = sidecar_path(mask)
        changed = _changed_ns(path)
        if changed is None:
            return ""
        known = self._sidecars.get(path)
        if known is None or known[0] != changed:
            status = ""
            try:
                sidecar = read_sidecar(mask)
                now = self._made_by[one.method]
                if sidecar is not None:
                    counts = sidecar.made_by.is_current(now) or changed >= self.since_ns
                    status = sidecar.status if counts else ""
            except (InputError, FileNotFoundError):
                status = ""
            known = (changed, status)
            self._sidecars[path] = known
        return known[1]


def _changed_ns(path: Path) -> int | None:
    """Return when a file was last written, ns; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
