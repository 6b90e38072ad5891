"""Progress of a run: images done, rate and time left, from the files that its jobs write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.study.configuration import StudyConfig
from spineseg.studyfolder.decisions import PILOT, read_membership, study_methods
from spineseg.studyfolder.images import read_included
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.locks import KeptMethods
from spineseg.studyfolder.sidecars import read_sidecar

INTERVAL_S = 20.0
"""Seconds between two checks of the files: often enough for a person, seldom enough for a slow file system."""


@dataclass(frozen=True)
class Pace:
    """Progress of a run.

    Parameters
    ----------
    done, total : int
        Images that every method of the stage has segmented, and images of the stage.
    n_missing : int
        Images that were not done when the run began.
    steps_done, steps_left : int
        Segmentations that this run has finished, and those that are missing; those of changed copies count as well.
    seconds : float
        Time since the run began.
    """

    done: int
    total: int
    n_missing: int
    steps_done: int
    steps_left: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Images per minute; an image that only some methods have segmented counts in part."""
        steps = self.steps_done + self.steps_left
        return 60 * self.n_missing * self.steps_done / steps / self.seconds if steps and self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the present rate, s; None if this run has finished nothing yet."""
        return self.seconds / self.steps_done * self.steps_left if self.steps_done else None

    def words(self) -> str:
        """Return a line for people.

        Examples
        --------
        >>> Pace(done=12, total=48, n_missing=48, steps_done=24, steps_left=72, seconds=240.0).words()
        '12 of 48 images segmented, 3.0 a minute, about 12 min left'
        """
        text = f"{self.done} of {self.total} images segmented"
        if self.seconds_left is None or not self.steps_left:
            return text
        return f"{text}, {self.per_minute:.1f} a minute, about {word_duration(self.seconds_left)} left"


def word_duration(seconds: float) -> str:
    """Return a duration in words: in minutes, or in hours from two hours on."""
    return f"{seconds / 3600:.0f} h" if seconds >= 7200 else f"{max(1, seconds / 60):.0f} min"


class PaceWatch:
    """Counts what a run has finished.

    Masks that exist when the run begins and were made by the present code, options and weights count as done. So a mask
    that is computed again for another reason counts as done from the start.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    stage : Stage
    """

    def __init__(self, folder: StudyFolder, config: StudyConfig, stage: Stage) -> None:
        self._folder, self._config, self._stage = folder, config, stage
        self._began = time.monotonic()
        self._since = time.time_ns()
        self._listed = 0
        self._missing: dict[Path, tuple[str, int]] = {}
        self._total = self._n_missing = self._steps_done = 0

    def measure(self) -> Pace | None:
        """Return the progress of the run; None before its images are listed."""
        try:
            listed = self._folder.images.stat().st_mtime_ns
            if listed != self._listed:
                self._plan()
                self._listed = listed
        except (OSError, InputError):  # not written yet, or being written; the jobs report errors in it
            return None
        for path in [path for path in self._missing if self._is_new(path)]:
            self._steps_done += self._missing.pop(path)[1]
        done = self._total - self._images_missing()
        left = sum(steps for _, steps in self._missing.values())
        seconds = time.monotonic() - self._began
        return Pace(done, self._total, self._n_missing, self._steps_done, left, seconds)

    def _images_missing(self) -> int:
        """Number of images that lack a mask."""
        return len({image for image, _ in self._missing.values()})

    def _is_new(self, path: Path) -> bool:
        """Whether this run has written a file."""
        try:
            return path.stat().st_mtime_ns >= self._since
        except OSError:
            return False

    def _plan(self) -> None:
        """List the files that are missing or by other code, each with its image and its number of segmentations."""
        images = stage_images(read_included(self._folder.images), self._stage)
        chunk_of = read_membership(self._folder).chunks
        self._total, self._missing = len(images), {}
        # in stage study only the method of each image, once it is known; else all methods
        kept = study_methods(self._folder) if self._stage == Stage.STUDY else KeptMethods(None)
        for name, method in self._config.methods.items():
            own = [image for image in images if kept.of(image.contrast) in (None, name)]
            made_by, copies = method.made_by(), self._config.decision.perturbations if method.kind != "files" else 0
            for image in own:
                path = sidecar_path(self._folder.mask(image, name))
                again = self._folder.perturbed_image(name, image.image_id)
                sidecar = read_sidecar(self._folder.mask(image, name)) if path.is_file() else None
                is_done = sidecar is not None and sidecar.made_by.is_current(made_by)
                if not is_done and not self._is_new(path):
                    self._missing[path] = (image.image_id, 1)
                if copies and chunk_of[image.image_id].startswith(PILOT) and not (is_done and again.is_file()):
                    self._missing[again] = (image.image_id, copies)
        self._n_missing = self._images_missing()


def follow(watch: PaceWatch, say: Callable[[str], None], interval_s: float = INTERVAL_S) -> Callable[[], None]:
    """Report the progress of a run in the background whenever it changes; return the function that ends this.

    Parameters
    ----------
    watch : PaceWatch
    say : callable
        Function that takes a line.
    interval_s : float
        Seconds between two checks.
    """
    ended = Event()

    def run() -> None:
        last = None
        while not ended.wait(interval_s):
            pace = watch.measure()
            if pace is not None and (pace.done, pace.steps_done) != last and pace.steps_left:
                last = (pace.done, pace.steps_done)
                say(pace.words())

    Thread(target=run, daemon=True, name="pace").start()
    return ended.set
