"""Segment images in a separate process: an image that crashes it stops neither the others nor the chunk."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from spineseg.errors import KilledError, MachineError, ModelError
from spineseg.memory_limit import ended_for_memory, keep_freed_memory
from spineseg.methods.declared import DeclaredMethod
from spineseg.progress import Progress
from spineseg.spelling import name_some
from spineseg.study.segment import record_failure, segment_images
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry, Timing
from spineseg.studyfolder.sidecars import KILLED, MadeBy, is_killed, read_sidecar


@dataclass(frozen=True)
class Segmenter:
    """One method with its device and threads, which is loaded in a separate process.

    Parameters
    ----------
    folder : StudyFolder
    method : DeclaredMethod
    device : {"auto", "cpu", "cuda"}
    threads : int
    """

    folder: StudyFolder
    method: DeclaredMethod
    device: str = "auto"
    threads: int = 1

    def run(self, images: Sequence[StudyImage]) -> tuple[MadeBy, list[ManifestEntry], list[Timing]]:
        """Segment images; finished images are not segmented again.

        An image whose process dies is tried once more in a separate process after the others. If that process dies
        too, the image has failed, and the reason is the signal. If the process ended as when memory runs out, the image
        has failed only if that happened in an earlier job too; until then the chunk is not finished.

        Raises
        ------
        InputError, MachineError
            For causes other than an image, as `segment_images` does, and for an image whose process was killed.
        """
        results: dict[str, tuple[ManifestEntry, Timing]] = {}
        waiting = list(images)
        died: list[StudyImage] = []
        worker = _Worker(self, len(waiting))
        try:
            while waiting:
                image = waiting.pop(0)
                try:
                    results[image.image_id] = worker.ask(image)
                except _Died as death:
                    died.append(image)
                    print(f"{image.image_id}: the process died ({death}); continuing with the others", file=sys.stderr)
                    worker = self._replace(worker, len(waiting) + len(died))
            killed = []
            for image in died:
                try:
                    results[image.image_id] = worker.ask(image)
                except _Died as death:
                    before = read_sidecar(self.folder.mask(image, self.method.name))
                    if death.is_kill and not (before and is_killed(before)):
                        killed.append(image.image_id)
                    worker = self._replace(worker, 1)
                    results[image.image_id] = worker.ask(image, death.reason)
            made_by = worker.made_by
        finally:
            worker.end()
        if killed:
            raise MachineError(
                f"{name_some(killed)}: the process ended twice as when memory runs out; the other images of the chunk"
                " are finished; close other programs, run fewer jobs at a time, or give the job more memory, and run"
                " the study again"
            )
        entries, timings = zip(*(results[image.image_id] for image in images), strict=True) if images else ((), ())
        return made_by, list(entries), list(timings)

    def _replace(self, worker: _Worker, n_images: int) -> _Worker:
        """Return a new process in place of one that has ended, or whose program was killed."""
        worker.end()
        return _Worker(self, n_images)


class _Died(Exception):
    """The process has ended; the message says how."""

    is_kill = False

    @property
    def reason(self) -> str:
        """Reason for an image's failure: the process died on it twice."""
        return f"the process died on this image, twice ({self}); to try again, delete the manifest of its chunk"


class _Killed(_Died):
    """The process, or that of a program, ended as when memory runs out, which says nothing about the image."""

    is_kill = True

    @property
    def reason(self) -> str:
        """Reason for the failure of an image whose process was killed in several jobs."""
        return f"{KILLED} ({self}); it is in no comparison, and the next run tries it again"


class _Worker:
    """A process that segments one image at a time."""

    def __init__(self, segmenter: Segmenter, n_images: int) -> None:
        # spawn: a fork of a process with threads may hang
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs, segmenter, n_images), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.made_by: MadeBy = self._answer()
        except _Died as death:
            raise ModelError(
                f"{segmenter.method.name}: the process died while the method was loaded ({death})"
            ) from None

    def ask(self, image: StudyImage, failure: str = "") -> tuple[ManifestEntry, Timing]:
        """Segment an image, or record why it failed."""
        try:
            self._connection.send((image, failure))
        except OSError as error:
            raise self._death() from error
        answer: tuple[ManifestEntry, Timing] = self._answer()
        return answer

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()

    def _answer(self):  # type: ignore[no-untyped-def]  # what was asked for
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._death() from error
        if isinstance(answer, KilledError):
            raise _Killed(answer.signal_name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _death(self) -> _Died:
        """Say how the process ended."""
        self._process.join()
        code = self._process.exitcode or 0
        if name := ended_for_memory(code):
            return _Killed(name)
        return _Died(f"exit code {code}" if code >= 0 else f"{signal.Signals(-code).name}, a crash in compiled code")


def _work(connection: Connection, segmenter: Segmenter, n_images: int) -> None:
    """Prepare the method, then segment the images sent until the other side closes."""
    keep_freed_memory()  # as in the process that started this one
    try:
        method = segmenter.method.prepare(device=segmenter.device, threads=segmenter.threads)
        connection.send(method.made_by)
        progress = Progress(n_images)
        while True:
            image, failure = connection.recv()
            if failure:
                connection.send(record_failure(image, segmenter.folder, method, failure))
                continue
            entries, timings = segment_images([image], segmenter.folder, method, progress)
            connection.send((entries[0], timings[0]))
    except EOFError:
        return
    except Exception as error:
        connection.send(error)
