"""The interface of a segmentation method, and the adapter for our own methods."""

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


@dataclass(frozen=True, eq=False)  # comparing arrays with == gives no single truth value
class ImageInput:
    """One image as methods receive it.

    Parameters
    ----------
    path : Path
        File of the image, for programs that read it themselves.
    volume : Volume
        The image in canonical orientation.
    grid : NativeGrid
        The grid of its file.
    contrast : {"t1", "t2", "t2s", "dwi"}
    names : dict
        Values of the placeholders (`spineseg.methods.placeholders`).
    drawings : dict
        What the user drew on the image's grid: name of the method's option to array or centerline.
    """

    path: Path
    volume: Volume
    grid: NativeGrid
    contrast: str
    names: Mapping[str, str] = field(default_factory=dict)
    drawings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return a short description without the arrays."""
        return f"Image({str(self.path)!r}, {self.contrast!r}, {self.volume!r})"


class Method(Protocol):
    """A method with its parameters and weights, ready for any number of images."""

    @property
    def name(self) -> str:
        """Name of the method in tables, file names and pages."""
        ...

    @property
    def made_by(self) -> MadeBy:
        """Code, parameters and weights behind its masks; part of the key that shows whether a result is still valid."""
        ...

    @property
    def maker(self) -> str:
        """Version of a program or of existing masks, as the user states it; empty for our own methods."""
        ...

    @property
    def device(self) -> str:
        """Device that it computes on."""
        ...

    @property
    def threads(self) -> int:
        """CPU threads that it may use."""
        ...

    @property
    def is_timed(self) -> bool:
        """Whether the duration of `segment` is the duration of the segmentation."""
        ...

    @property
    def reads_file(self) -> bool:
        """Whether it reads `ImageInput.path` itself."""
        ...

    def segment(self, image: ImageInput, progress: Progress | None = None) -> Segmentation:
        """Segment an image; InputError if it cannot be used."""
        ...

    def sources(self, names: Mapping[str, str]) -> list[Path]:
        """Return the files beside the image that a result depends on."""
        ...


@dataclass(frozen=True)
class PreparedOwnMethod:
    """One of our own methods: `kernel` is called with volume, contrast, ``progress=`` and the drawings."""

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
