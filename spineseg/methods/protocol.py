"""What every method is to the rest of the package: something that makes a segmentation of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from spineseg.progress import Progress
    from spineseg.segmentation import Segmentation
    from spineseg.studyfolder.sidecars import MadeBy
    from spineseg.volume import NativeGrid, Volume


@dataclass(frozen=True, eq=False)  # == of arrays is no single truth
class ImageInput:
    """One image as methods get it.

    Parameters
    ----------
    path : Path
        Its file, for programs.
    volume : Volume
    grid : NativeGrid
    contrast : {"t1", "t2", "t2s", "dwi"}
    names : dict
        What placeholders stand for (`spineseg.methods.placeholders`).
    drawings : dict
        What the user drew on the image's grid: name of the method's option to content.
    """

    path: Path
    volume: Volume
    grid: NativeGrid
    contrast: str
    names: Mapping[str, str] = field(default_factory=dict)
    drawings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say what it is, not the arrays."""
        return f"Image({str(self.path)!r}, {self.contrast!r}, {self.volume!r})"


class Method(Protocol):
    """A method with its parameters and weights, ready for any number of images."""

    @property
    def name(self) -> str:
        """As in tables, file names and pages."""
        ...

    @property
    def made_by(self) -> MadeBy:
        """What its masks are made by; part of the key that shows whether a result is still valid."""
        ...

    @property
    def maker(self) -> str:
        """Version of a program or of existing masks, as the user states it; empty for our own methods."""
        ...

    @property
    def device(self) -> str:
        """Where it computes."""
        ...

    @property
    def threads(self) -> int:
        """CPU threads that it may use."""
        ...

    @property
    def is_timed(self) -> bool:
        """Whether what `segment` takes is what the segmentation took."""
        ...

    @property
    def reads_file(self) -> bool:
        """Whether it reads `ImageInput.path` itself."""
        ...

    def segment(self, image: ImageInput, progress: Progress | None = None) -> Segmentation:
        """Segment an image; InputError where it cannot be used."""
        ...

    def sources(self, names: Mapping[str, str]) -> list[Path]:
        """Return the files beside the image that a result depends on."""
        ...


@dataclass(frozen=True)
class PreparedOwnMethod:
    """A method of ours: `kernel` is called with volume, contrast, ``progress=`` and the drawings."""

    name: str
    made_by: MadeBy
    kernel: Callable[..., Segmentation]
    device: str = "cpu"
    threads: int = 1
    maker = ""
    is_timed = True
    reads_file = False

    def segment(self, image: ImageInput, progress: Progress | None = None) -> Segmentation:
        """Segment an image."""
        return self.kernel(image.volume, image.contrast, progress=progress, **image.drawings)

    def sources(self, names: Mapping[str, str]) -> list[Path]:
        """Return the files beside the image that a result depends on: none."""
        return []
