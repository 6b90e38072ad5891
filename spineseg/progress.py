"""Show the user the progress, and record the time of each stage."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from spineseg.errors import one_line

BAR_WIDTH = 24  # characters; leaves room for a name on an 80-column terminal


class Progress:
    """Stages of the work on one or more images: a bar on a terminal, plain lines elsewhere.

    Parameters
    ----------
    n_images : int
    verbosity : {0, 1, 2}
        0 is silent.
    stream : file, default stderr
        stdout stays free for results.
    """

    def __init__(self, n_images: int = 1, *, verbosity: int = 1, stream: TextIO | None = None):
        self._n_images = n_images
        self._stream = stream or sys.stderr
        self._verbosity = verbosity
        self._terminal = self._stream.isatty()
        self._done = 0
        self._name = ""
        self._stage: tuple[str, float] | None = None
        self.seconds: dict[str, float] = {}

    def start_image(self, name: str) -> None:
        """Begin the next image; the times of the previous one are discarded."""
        self.seconds = {}
        self._stage = None
        self._name = one_line(name)

    def stage(self, name: str) -> None:
        """Begin a stage; this ends the previous one."""
        self._end_stage()
        self._stage = (name, time.perf_counter())
        if self._verbosity and self._terminal:
            self._draw(name)
        elif self._verbosity:
            print(f"[{self._done + 1}/{self._n_images}] {self._name}: {name}", file=self._stream, flush=True)

    def end_image(self, status: str) -> None:
        """End the image with its status."""
        self._end_stage()
        self._done += 1
        if self._verbosity and self._terminal:
            self._draw(status)
            if self._done == self._n_images:
                print(file=self._stream, flush=True)
        elif self._verbosity:
            total = sum(self.seconds.values())
            print(
                f"[{self._done}/{self._n_images}] {self._name}: {status} ({total:.1f} s)",
                file=self._stream,
                flush=True,
            )

    def _end_stage(self) -> None:
        if self._stage is None:
            return
        name, start = self._stage
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self._stage = None

    def _draw(self, text: str) -> None:
        filled = BAR_WIDTH * self._done // max(1, self._n_images)
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        print(
            f"\r\033[K[{bar}] {self._done}/{self._n_images} {self._name}: {text}",
            end="",
            file=self._stream,
            flush=True,
        )
