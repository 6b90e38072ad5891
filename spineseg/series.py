"""Average a 4-D series over time; a diffusion series only over its diffusion-weighted volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.bids import parse_name
from spineseg.errors import InputError
from spineseg.reading import read_text
from spineseg.writing import file_stem

if TYPE_CHECKING:  # numpy is imported where it is used, so that indexing can look for b-values without it
    import numpy as np
    from numpy.typing import NDArray

MAX_B_VALUE = 1e5
"""Largest b-value, s/mm². No scanner reaches it, so a larger number is damaged or in another unit."""

B_VALUE_WEIGHTED = 50.0
"""b-value above which a volume counts as diffusion weighted, s/mm². Scanners write 5-50 for nominal b = 0."""


def average_series(
    read_volume: Callable[[int], NDArray[np.float32]],
    n_volumes: int,
    path: Path,
    contrast: str | None,
    bval: str | Path | None,
    notes: list[str],
) -> NDArray[np.float32]:
    """Average a series over time; a diffusion series only over its diffusion-weighted volumes.

    Parameters
    ----------
    read_volume : callable
        Function from the number of a volume to its values, (I, J, K) ndarray.
    n_volumes : int
    path : Path
        The image's file, for which `find_bval` looks for b-values unless `bval` is given.
    contrast : str or None
    bval : str or Path, optional
        File of b-values.
    notes : list of str
        A note on what was averaged is added here.

    Returns
    -------
    mean : (I, J, K) ndarray of float32
        Mean of the finite values of each voxel; NaN if there are none.

    Raises
    ------
    InputError
        If the b-values are not numbers, or if their number is not that of the volumes.
    """
    import numpy as np

    chosen = list(range(n_volumes))
    words = f"mean of {n_volumes} volumes"
    if contrast == "dwi":
        b_values = _read_b_values(path, n_volumes, bval)
        weighted = [] if b_values is None else np.flatnonzero(b_values > B_VALUE_WEIGHTED).tolist()
        if weighted:
            chosen = weighted
            words = f"mean of {len(chosen)} of {n_volumes} volumes (b > {B_VALUE_WEIGHTED:g} s/mm²)"
        else:
            why = "no b-values were found" if b_values is None else f"none has b > {B_VALUE_WEIGHTED:g} s/mm²"
            words += f": all of them, since {why}"
    notes.append(words)
    total: NDArray[np.float64] = np.zeros(())
    count, n_spoilt = None, 0
    for position, number in enumerate(chosen):
        volume = read_volume(number)
        finite = np.isfinite(volume)
        if not finite.all():
            n_spoilt += 1
            if count is None:
                count = np.full(volume.shape, position, dtype=np.int32)
            volume = np.where(finite, volume, np.float32(0))
        if count is not None:
            count += finite
        total = total + volume.astype(np.float64)
    if count is None:
        return (total / len(chosen)).astype(np.float32)
    notes.append(f"{n_spoilt} of {len(chosen)} volumes hold NaN or infinite values, which were left out of the mean")
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count).astype(np.float32)


def find_bval(path: str | Path) -> Path | None:
    """Find the b-values of a diffusion series by BIDS inheritance.

    Parameters
    ----------
    path : str or Path
        The image.

    Returns
    -------
    Path or None
        The ``.bval`` with the image's name beside it. Otherwise the closest one with its suffix and no entity that the
        image lacks: in its folder, its session's, its subject's or the dataset's; within one folder the one with most
        entities.

    Raises
    ------
    InputError
        If two files of one folder fit equally well.
    """
    path = Path(path)
    own = path.with_name(file_stem(path) + ".bval")
    if own.is_file():
        return own
    name = parse_name(file_stem(path))
    if name is None:
        return None
    wanted = _entities(name.stem)
    for folder in _levels(path, name.subject):
        fitting: dict[int, list[Path]] = {}
        for file in sorted(folder.glob(f"*{name.suffix}.bval")):
            found = _entities(file.stem)
            if file.is_file() and found.items() <= wanted.items():
                fitting.setdefault(len(found), []).append(file)
        if fitting:
            closest = fitting[max(fitting)]
            if len(closest) > 1:
                raise InputError(
                    f"{path}: expected b-values in one file, found {closest[0].name} and {closest[1].name} "
                    f"in {folder}; name one after the image"
                )
            return closest[0]
    return None


def _levels(path: Path, subject: str) -> list[Path]:
    """Return the folders from the image's up to the dataset's; outside of a BIDS dataset only the image's."""
    folders = [path.parent, *path.absolute().parent.parents][:4]
    names = [path.absolute().parent.name, *(folder.name for folder in folders[1:])]
    if f"sub-{subject}" not in names[:3]:
        return folders[:1]
    return folders[: names.index(f"sub-{subject}") + 2]


def _entities(stem: str) -> dict[str, str]:
    """Return the parts of a BIDS name by key; the suffix has the empty key."""
    *pairs, suffix = stem.split("_")
    return dict(pair.partition("-")[::2] for pair in pairs) | {"": suffix}


def _read_b_values(path: Path, n_volumes: int, bval: str | Path | None) -> NDArray[np.float64] | None:
    """Return the b-values of a series, s/mm²; None if there is no file."""
    import numpy as np

    file = Path(bval) if bval else find_bval(path)
    if file is None:
        return None
    try:
        values = np.array(read_text(file, "b-values").split(), dtype=float)
    except ValueError as error:
        raise InputError(f"{file}: expected b-values (numbers), found other text; export it again") from error
    if values.size != n_volumes:
        raise InputError(
            f"{file}: expected {n_volumes} b-values for {path.name}, found {values.size}; is it of another series?"
        )
    odd = values[~((values >= 0) & (values <= MAX_B_VALUE))]
    if odd.size:
        raise InputError(f"{file}: expected b-values of 0 to {MAX_B_VALUE:g} s/mm², found {odd[0]:g}; correct it")
    return values
