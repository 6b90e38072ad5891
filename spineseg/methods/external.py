"""Methods that are not ours: masks that exist already, and programs that are run on each image.

Whatever they deliver is checked to lie on the image's grid and enters the study as a binary mask,
so that measures, decision and quality control treat it as they treat our own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.errors import GeometryError, InputError, KilledError, read_shortage
from spineseg.memory_limit import ended_for_memory
from spineseg.methods.placeholders import fill_command, fill_path
from spineseg.methods.protocol import ImageInput
from spineseg.segmentation import Segmentation
from spineseg.studyfolder.sidecars import MadeBy
from spineseg.volume import MAX_SHIFT_VOX, NativeGrid, Volume, check_same_affine, load_mask, measure_shift
from spineseg.writing import file_stem

if TYPE_CHECKING:
    from spineseg.progress import Progress

MESSAGE_LENGTH = 300
"""Characters of a program's last line that a table shows."""

_COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class ExistingMasks:
    """Masks that were made before the study.

    Parameters
    ----------
    name : str
    made_by : MadeBy
    maker : str
        Version of what made them, as the user states it.
    template : str
        Path with placeholders, see `spineseg.methods.placeholders`.
    roots : tuple of Path
        Folders in which it is looked for, in this order.
    label : int or None
        The cord's, where the masks have several.
    """

    name: str
    made_by: MadeBy
    maker: str
    template: str
    roots: tuple[Path, ...]
    label: int | None = None
    device = "cpu"
    threads = 1
    is_timed = False  # reading a mask is not what it took to make it
    reads_file = True

    def find(self, names: Mapping[str, str]) -> Path:
        """Return the mask of an image, or where it was expected."""
        path = fill_path(self.template, names)
        return next((root / path for root in self.roots if (root / path).is_file()), self.roots[0] / path)

    def sources(self, names: Mapping[str, str]) -> list[Path]:
        """Return the files beside the image that a result depends on."""
        path = self.find(names)
        return [path] if path.is_file() else []

    def segment(self, image: ImageInput, progress: Progress | None = None) -> Segmentation:
        """Return the image's mask.

        Raises
        ------
        InputError
            If there is none, or it is no mask of this image.
        """
        path = self.find(image.names)
        if not path.is_file():
            raise InputError(f"{path}: expected the mask of {image.path.name}, found no such file")
        mask, notes = read_mask(path, image.volume, image.grid, label=self.label)
        return _as_segmentation(mask, notes, sources=(str(path),))


@dataclass(frozen=True)
class Program:
    """A program that writes the mask of one image.

    Parameters
    ----------
    name : str
    made_by : MadeBy
    maker : str
        Its version, as the user states it.
    template : str
        Command for bash with placeholders, see `spineseg.methods.placeholders`.
    timeout_min : float, minutes
        After it the program is ended and the image counts as failed.
    threads : int
    label : int or None
        The cord's, where its masks have several.
    """

    name: str
    made_by: MadeBy
    maker: str
    template: str
    timeout_min: float
    threads: int = 1
    label: int | None = None
    device = "cpu"
    is_timed = True
    reads_file = True

    def sources(self, names: Mapping[str, str]) -> list[Path]:
        """Return the files beside the image that a result depends on: none that we know."""
        return []

    def segment(self, image: ImageInput, progress: Progress | None = None) -> Segmentation:
        """Run the program on an image and return the mask that it wrote.

        Raises
        ------
        InputError
            If it ends with an error, takes too long, or writes no mask of this image; with its last line.
        """
        with tempfile.TemporaryDirectory(prefix="spineseg-") as folder:
            target = Path(folder) / f"{file_stem(image.path)}_seg.nii.gz"
            path = str(image.path)
            files = {"image": f"./{path}" if path.startswith("-") else path, "mask": str(target), "folder": folder}
            command, variables = fill_command(self.template, {**image.names, **files, "threads": str(self.threads)})
            try:
                log = Path(folder) / "stderr.txt"
                peak_mib = run_program(command, variables, self.timeout_min * 60, self.threads, log)
                mask, notes = read_mask(_find_written(target), image.volume, image.grid, label=self.label)
            except InputError as error:  # the folder's name differs from run to run, tables must not
                raise InputError(str(error).replace(f"{folder}/", "")) from error
        return _as_segmentation(mask, notes, peak_mib=peak_mib)


def run_program(command: str, variables: Mapping[str, str], seconds: float, threads: int, log: Path) -> float:
    """Run a command by bash and wait for its end; what it prints also goes to our standard error.

    `variables` are added to its environment.

    Returns
    -------
    peak_mib : float, MiB
        Its peak memory.

    Raises
    ------
    InputError
        With the program's last line where it fails, or where it takes longer than `seconds`.
    MachineError
        Where that line says that there is no space or no memory.
    """
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), str(threads))
    shell = shutil.which("bash") or "sh"
    with log.open("wb") as stream:
        # a session of its own, so that what the program has started can be ended with it
        process = subprocess.Popen(
            [shell, "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **counts, **variables},
            start_new_session=True,
        )
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)  # unlike wait(), tells the memory of this process alone
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    last = _last_line(log)
    if late.is_set():
        raise InputError(f"took longer than {seconds / 60:g} min and was ended{f'; last line: {last}' if last else ''}")
    if process.returncode:
        if shortage := read_shortage(last):  # no fault of the image
            raise shortage
        if name := ended_for_memory(process.returncode):
            raise KilledError(name)
        raise InputError(f"exit code {process.returncode}: {last or 'it printed nothing'}")
    return usage.ru_maxrss / 1024


def _last_line(log: Path) -> str:
    """Return the last line that a program printed, without colours; the whole goes to our standard error."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if text:
        os.write(2, text.encode(errors="replace"))
    # a progress bar ends its lines by carriage returns
    lines = [line.strip() for line in re.split(r"[\r\n]+", _COLOUR_CODES.sub("", text)) if line.strip()]
    return lines[-1][:MESSAGE_LENGTH] if lines else ""


def _find_written(target: Path) -> Path:
    """Return the mask that a program wrote: under the name it was given, or the only image in its folder."""
    if target.is_file():
        return target
    others = sorted(path for path in target.parent.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
    if len(others) == 1:
        return others[0]
    found = f"{len(others)} images ({', '.join(path.name for path in others[:3])})" if others else "no image"
    raise InputError(f"ended without an error, but wrote no mask: expected {{mask}} ({target.name}), found {found}")


def read_mask(
    path: Path, volume: Volume, grid: NativeGrid, *, label: int | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """Read a mask of an image, canonical, values 0 to 1, and what is odd about it.

    Parameters
    ----------
    path : Path
    volume, grid :
        The image as `load_image` returns it.
    label : int, optional
        The cord's, of a mask with several.

    Raises
    ------
    GeometryError
        If it does not lie on the image's voxels. Other axes of the file are no obstacle, unless sform and
        qform of one of the two disagree: which voxel is which is then unknown.
    InputError
        If it cannot be read, or is no mask.
    """
    mask, own_grid = load_mask(path, label=label)
    notes = own_grid.notes
    if ((mask.data > 0) & (mask.data < 1)).any():
        notes = (*notes, f"{path.name} is a soft mask; cut at 0.5")
    if mask.shape != volume.shape:
        raise GeometryError(
            f"{path}: expected the image's grid {grid.shape3}, found {own_grid.shape3}; resample it to the image"
        )
    check_same_affine(mask.affine, volume.affine, volume.shape, path)
    if own_grid.shape3 != grid.shape3 or measure_shift(own_grid.affine, grid.affine, grid.shape3) > MAX_SHIFT_VOX:
        if grid.forms_disagree or own_grid.forms_disagree:
            raise GeometryError(
                f"{path}: expected the image's axes, found others, and sform and qform of the header disagree; "
                "save it on the image's grid"
            )
        notes = (*notes, f"{path.name} has other axes than the image; turned to the image's")
    return mask, notes


def _as_segmentation(
    mask: Volume, notes: Iterable[str], *, sources: tuple[str, ...] = (), peak_mib: float | None = None
) -> Segmentation:
    """Return a mask as a method's result."""
    cord = mask.data >= 0.5
    status = "ok" if cord.any() else "empty"
    extra = () if cord.any() else ("the mask holds no cord",)
    return Segmentation(mask.data, cord, None, status, (*notes, *extra), sources=sources, peak_mib=peak_mib)
