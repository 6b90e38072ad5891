"""Methods that are not ours: existing masks, and programs that are run on each image.

Their masks are checked to lie on the image's grid and enter the study as binary masks,
so that measures, decision and quality control treat them like our own.
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
"""Number of characters of a program's last line that are kept for tables."""

_COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class ExistingMasks:
    """Masks that were made before the study.

    Parameters
    ----------
    name : str
    made_by : MadeBy
    maker : str
        Version of the program that made them, as the user states it.
    template : str
        Path with placeholders, see `spineseg.methods.placeholders`.
    roots : tuple of Path
        Folders in which the masks are looked for, in this order.
    label : int or None
        Label of the cord, if the masks have several labels.
    """

    name: str
    made_by: MadeBy
    maker: str
    template: str
    roots: tuple[Path, ...]
    label: int | None = None
    device = "cpu"
    threads = 1
    is_timed = False  # reading a mask takes less time than making it took
    reads_file = True

    def find(self, names: Mapping[str, str]) -> Path:
        """Return the path of an image's mask; if there is none, the path where it was expected first."""
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
            If there is none, or the file is not a mask of this image.
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
        Time limit; after it the program is killed and the image counts as failed.
    threads : int
    label : int or None
        Label of the cord, if its masks have several labels.
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
            If it ends with an error, takes too long, or writes no mask of this image; the message has the last line
            that it printed.
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
            except InputError as error:  # the folder's name differs between runs and must not reach the tables
                raise InputError(str(error).replace(f"{folder}/", "")) from error
        return _as_segmentation(mask, notes, peak_mib=peak_mib)


def run_program(command: str, variables: Mapping[str, str], seconds: float, threads: int, log: Path) -> float:
    """Run a command with bash and wait for it; its output also goes to our standard error.

    Parameters
    ----------
    command : str
    variables : dict of str to str
        Added to the command's environment.
    seconds : float
        Time limit.
    threads : int
        CPU threads that the command's numerical libraries are told to use.
    log : Path
        File for its output.

    Returns
    -------
    peak_mib : float, MiB
        Its peak memory.

    Raises
    ------
    InputError
        If the program fails or takes longer than `seconds`; the message has the last line that it printed.
    MachineError
        If that line reports a lack of space or memory.
    KilledError
        If the system killed the program for lack of memory.
    """
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), str(threads))
    shell = shutil.which("bash") or "sh"
    with log.open("wb") as stream:
        # in a new session, so that processes that the program starts can be killed with it
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
            _, status, usage = os.wait4(process.pid, 0)  # unlike wait(), gives the memory of this process only
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
    """Return the last line that a program printed, without colours; copy the whole log to our standard error."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if text:
        os.write(2, text.encode(errors="replace"))
    # progress bars end their lines with carriage returns
    lines = [line.strip() for line in re.split(r"[\r\n]+", _COLOUR_CODES.sub("", text)) if line.strip()]
    return lines[-1][:MESSAGE_LENGTH] if lines else ""


def _find_written(target: Path) -> Path:
    """Return the mask that a program wrote: the requested file, or else the only image in its folder."""
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
    """Read a mask of an image.

    Parameters
    ----------
    path : Path
    volume, grid :
        The image as `load_image` returns it.
    label : int, optional
        Label of the cord, if the mask has several labels.

    Returns
    -------
    mask : Volume, values 0 to 1
        Canonical orientation.
    notes : tuple of str
        What is unusual about the file, one line each.

    Raises
    ------
    GeometryError
        If the mask does not lie on the image's voxels. Its file may have other axes than the image's, unless sform
        and qform of one of the two files disagree: then it is unknown which voxels correspond.
    InputError
        If the file cannot be read, or is not a mask.
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
    """Return a mask as the result of a method."""
    cord = mask.data >= 0.5
    status = "ok" if cord.any() else "empty"
    extra = () if cord.any() else ("the mask holds no cord",)
    return Segmentation(mask.data, cord, None, status, (*notes, *extra), sources=sources, peak_mib=peak_mib)
