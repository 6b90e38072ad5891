"""Open an image file: check its header and give access to its voxels, without interpreting their values."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.imageglobals import logger
from nibabel.spatialimages import SpatialImage
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from spineseg.errors import SHORTAGES, InputError, MachineError, SpinesegError, advise
from spineseg.file_digests import absent_content
from spineseg.volume.compressed import CHUNK_BYTES, GZIP_MAGIC, read_compressed
from spineseg.volume.grid import Volume, canonical_zeros, native_view
from spineseg.volume.limits import affine_in_mm, check_claim, check_geometry, check_stored

HEAD_BYTES = nib.Nifti2Header.sizeof_hdr

SLAB_VOXELS = 1 << 22
"""Voxels that are read at a time when zeros are skipped: 16 MiB as float32, the size of an ordinary image."""

QUATERNION_SLACK = 1e-3
"""Largest excess of a quaternion's squared length over 1: programs that round to three digits cause this much."""

MAX_FORM_GAP_VOX = 1.0
"""Distance between the positions of a voxel by sform and by qform above which the two disagree; rounding causes a
tenth."""


FOOTER_BYTES, _WITH_FOOTER = 1 << 20, (".mgh", ".mgz")
"""Bytes that may follow the voxels in FreeSurfer's formats, and the header in a pair of files: settings and remarks."""

UNKNOWN_AXES = (
    "the header has no orientation (sform and qform codes are 0, or the format has none); "
    "its axes are taken to run from right to left, posterior to anterior and inferior to superior"
)
"""Note on a header without orientation; it describes nibabel's assumption. If the true axes differ, diameters and
angles are wrong, or slices run along the cord."""


@dataclass(frozen=True)
class StoredImage:
    """An image file whose header has been checked.

    Parameters
    ----------
    shape : tuple of int
    affine : (4, 4) ndarray, mm
    header : nibabel.Nifti1Header
        Header for files that are written on this grid.
    read_planes : callable
        Takes the number of a volume, the first plane along its third axis, and the plane after the last. Returns
        their values, (I, J, n) ndarray of float32, slope and intercept applied.
    notes : tuple of str
    forms_disagree : bool
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    header: nib.Nifti1Header
    read_planes: Callable[[int, int, int], NDArray[np.float32]]
    notes: tuple[str, ...] = ()
    forms_disagree: bool = False

    @property
    def n_volumes(self) -> int:
        """Number of volumes of a series; 1 for an image."""
        return self.shape[3] if len(self.shape) > 3 else 1

    def read_volume(self, number: int) -> NDArray[np.float32]:
        """Return the values of a volume, (I, J, K)."""
        return self.read_planes(number, 0, (*self.shape, 1)[2])

    def read_filled(self) -> tuple[NDArray[np.float32], list[tuple[int, NDArray[np.uint8]]]]:
        """Return the nonzero values of the first volume, NaN included, and their places, for `filled_volume`.

        A mask is mostly zeros: it is read a few planes at a time, and the zeros are not kept.
        """
        i, j, k = (*self.shape, 1)[:3]
        step = max(1, SLAB_VOXELS // (i * j))
        values, places = [np.zeros(0, np.float32)], []
        for first in range(0, k, step):
            planes = self.read_planes(0, first, min(k, first + step)).T  # as they lie in the file
            is_filled = planes != 0
            if is_filled.any():
                values.append(planes[is_filled])
                places.append((first, np.packbits(is_filled)))
        return np.concatenate(values), places

    def filled_volume(self, values: NDArray[np.float32], places: list[tuple[int, NDArray[np.uint8]]]) -> Volume:
        """Return a volume in canonical orientation with values at the places that `read_filled` returned.

        Memory pages that hold only zeros are never written, so they take no memory.
        """
        i, j, k = (*self.shape, 1)[:3]
        volume = canonical_zeros((i, j, k), self.affine)
        native, done, step = native_view(volume.data, self.affine), 0, max(1, SLAB_VOXELS // (i * j))
        for first, packed in places:
            planes = native[:, :, first : first + step].T
            is_filled = np.unpackbits(packed, count=planes.size).view(bool).reshape(planes.shape)
            n = int(np.count_nonzero(is_filled))
            planes[is_filled] = values[done : done + n]
            done += n
        return volume


def open_image(path: Path, *, is_mask: bool = False) -> StoredImage:
    """Open an image file: check header, size and checksum, and decompress it.

    Raises
    ------
    InputError
        If the file is missing, damaged, not an image, or outside the limits of `spineseg.volume.limits`.
    MachineError
        If the machine cannot read it, for lack of memory or the like.
    """
    with _one_line_errors(path):
        if path.is_dir():
            raise InputError(f"{path}: expected a NIfTI image, found a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: expected a NIfTI image, found no plain file; name a file")
        if why := absent_content(path):
            raise InputError(f"{path}: {why}")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected a NIfTI image, found an empty file; copy or convert it again")
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _open_nifti(path, is_mask)
        return _open_other(path, is_mask)


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turn errors of nibabel, numpy and the system into one line; a lack of memory or disk does not count as damage."""
    was_disabled, logger.disabled = logger.disabled, True  # nibabel also prints what it corrects in a header
    try:
        with np.errstate(all="ignore"):
            yield
    except (SpinesegError, MemoryError, NameError):  # a NameError is our bug, not damage
        raise
    except nib.filebasedimages.ImageFileError as error:
        raise InputError(f"{path}: expected a NIfTI image, found another format; convert it first") from error
    except OSError as error:
        if error.errno in SHORTAGES:
            reason = error.strerror or str(error)
            raise MachineError(f"{path}: cannot be read ({reason}); {advise(error)}") from error
        if error.errno is not None:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); check the disk and its permissions"
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # nibabel raises many kinds of errors for damage
        raise _damaged(path, error) from error
    finally:
        logger.disabled = was_disabled


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):  # its text is only the unknown code of the header
        reason = f"unknown code {reason} in its header"
    return InputError(f"{path}: damaged or truncated ({reason}); copy or convert it again")


def _open_nifti(path: Path, is_mask: bool) -> StoredImage:
    """Open a NIfTI file, compressed or not."""
    stored = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(HEAD_BYTES)
    is_gz = path.name.lower().endswith(".gz")
    if start.startswith(GZIP_MAGIC) != is_gz:
        state, name = ("not compressed", "with") if is_gz else ("compressed", "without")
        if is_gz and _header_class(start) is None:
            raise InputError(f"{path}: expected a NIfTI image, found another format; convert it first")
        raise InputError(f"{path}: is {state} but named {name} .gz; rename it")

    found: list[tuple[nib.Nifti1Header, _Place]] = []

    def claimed_bytes(head: bytes) -> int:
        header = _parse_header(path, head)
        claimed = check_claim(
            path,
            header.get_data_shape(),
            header.get_data_dtype().itemsize,
            header.get_data_offset(),
            is_mask=is_mask,
        )
        found.append((header, _place(path, header)))
        if is_gz:
            check_stored(path, claimed, stored, is_mask=is_mask)
        return claimed

    source: object = str(path)
    if is_gz:
        source = read_compressed(path, HEAD_BYTES, claimed_bytes)
    elif (claimed := claimed_bytes(start)) != stored:
        raise InputError(
            f"{path}: damaged or truncated (its header claims {claimed} bytes, found {stored}); "
            "copy or convert it again"
        )
    header, (affine, notes, forms_disagree) = found[0]
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    slope, inter = header.get_slope_inter()
    scaling = (1.0 if slope is None else slope, 0.0 if inter is None else inter)
    volume_bytes = int(np.prod(shape[:3], dtype=np.int64)) * dtype.itemsize

    def read_planes(number: int, first: int, last: int) -> NDArray[np.float32]:
        rows, columns, n = (*shape[:3], 1)[:3]
        offset = header.get_data_offset() + number * volume_bytes + volume_bytes // n * first
        proxy = ArrayProxy(source, ((rows, columns, last - first), dtype, offset, *scaling))
        with _one_line_errors(path):
            return _as_float(proxy)

    return StoredImage(shape, affine, _writable_header(header), read_planes, notes, forms_disagree)


def _open_other(path: Path, is_mask: bool) -> StoredImage:
    """Open an image of another format that nibabel reads, such as .mgz or a pair of .hdr and .img."""
    if path.suffix.lower() in (".bz2", ".zst"):
        raise InputError(f"{path}: expected .nii or .nii.gz, found {path.suffix}; decompress it")
    _check_pair(path)
    image = cast(SpatialImage, nib.load(path))
    dtype = image.get_data_dtype()
    _check_numbers(path, dtype)
    offset = getattr(image.dataobj, "offset", 0)
    claimed = check_claim(path, image.shape, dtype.itemsize, offset, is_mask=is_mask)
    for part, holder in image.file_map.items():
        file = Path(holder.filename or path)
        if not file.is_file():  # the .mat beside an Analyze image is optional
            continue
        longest = claimed if part == "image" and file.suffix.lower() not in _WITH_FOOTER else claimed + FOOTER_BYTES
        if _count_bytes(file, longest) > longest:
            raise InputError(
                f"{path}: damaged (its header claims {claimed} bytes, {file.name} has more); convert it again"
            )
    affine = np.asarray(image.affine, np.float64)
    notes: tuple[str, ...] = ()
    forms_disagree = False
    if isinstance(image, nib.Nifti1Pair):
        affine, notes, forms_disagree = _place(path, image.header)
        header = _writable_header(image.header)
    else:
        check_geometry(path, affine, image.shape)
        if isinstance(image, nib.AnalyzeImage) and not path.with_suffix(".mat").is_file():
            notes = (UNKNOWN_AXES,)
        header = nib.Nifti1Image(np.zeros(image.shape[:3], np.uint8), affine).header
    # stored numbers take less memory than float32, or stay on the disk; not all formats give access to them
    proxy = image.dataobj if type(image.dataobj) is ArrayProxy else None
    stored = _as_float(image.dataobj) if proxy is None else proxy.get_unscaled()
    values = stored.reshape(*(*image.shape[:3], 1)[:3], -1)

    def read_planes(number: int, first: int, last: int) -> NDArray[np.float32]:
        planes = values[:, :, first:last, number]
        return planes if proxy is None else _as_float(apply_read_scaling(planes, proxy.slope, proxy.inter))

    return StoredImage(image.shape, affine, header, read_planes, notes, forms_disagree)


def _check_pair(path: Path) -> None:
    """Refuse an image of two files if one of them is missing."""
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    other = {".img": ".hdr", ".hdr": ".img"}.get(inner.suffix.lower())
    if other is None:
        return
    other = other.upper() if inner.suffix.isupper() else other
    wanted = inner.with_suffix(other)
    if not any(wanted.with_name(wanted.name + end).is_file() for end in ("", ".gz")):
        raise InputError(f"{path}: expected {wanted.name} beside it, found no such file; copy both")


def _count_bytes(file: Path, most: int) -> int:
    """Return the decompressed size of a file, its checksum verified; stop a little after `most` bytes."""
    if file.suffix.lower() not in (".gz", ".mgz"):
        return file.stat().st_size
    found = 0
    with gzip.open(file) as stream:
        while found <= most and (piece := stream.read(CHUNK_BYTES)):
            found += len(piece)
    return found


def _as_float(values: object) -> NDArray[np.float32]:
    """Read voxels as float32; values beyond its range become infinite."""
    return np.asarray(values, dtype=np.float32)


def _header_class(head: bytes) -> type[nib.Nifti1Header] | None:
    """Return the header class for a file that begins with `head`; None if it is not NIfTI."""
    classes = (nib.Nifti1Header, nib.Nifti2Header)
    return next((known for known in classes if known.may_contain_header(head)), None)


def _parse_header(path: Path, head: bytes) -> nib.Nifti1Header:
    """Read and check a header, and correct its quaternion."""
    known = _header_class(head)
    if known is None:
        raise InputError(f"{path}: expected a NIfTI image, found another format; convert it first")
    head = head[: known.sizeof_hdr]
    header = known.from_fileobj(io.BytesIO(head))
    _check_sizes(path, known.from_fileobj(io.BytesIO(head), check=False))
    _check_numbers(path, header.get_data_dtype())
    for name in ("scl_slope", "scl_inter"):
        if np.isinf(header[name]):
            raise InputError(f"{path}: damaged (its {name} is infinite); convert it again")
    _shorten_quaternion(path, header)
    return header


def _check_sizes(path: Path, header: nib.Nifti1Header) -> None:
    """Refuse voxel edges of 0 if the affine is computed from them; nibabel would assume 1 mm."""
    axes = min(int(header["dim"][0]), 3)
    empty = (header["pixdim"][1 : axes + 1] == 0) & (header["dim"][1 : axes + 1] > 1)
    if header["sform_code"] <= 0 and empty.any():
        raise InputError(f"{path}: expected voxels with a size, found an edge of 0 mm; convert it again")


def _check_numbers(path: Path, dtype: np.dtype) -> None:
    """Refuse colours, complex numbers and the like."""
    if dtype.kind not in "iufb":
        raise InputError(f"{path}: expected one number per voxel, found {dtype}; convert it to float")


def _shorten_quaternion(path: Path, header: nib.Nifti1Header) -> None:
    """Shorten a quaternion that rounding made longer than 1, because nibabel would refuse it."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    parts = np.array([float(header[name]) for name in names])
    length = float((parts**2).sum())
    if length > 1 + QUATERNION_SLACK and header["sform_code"] <= 0 < header["qform_code"]:
        raise InputError(
            f"{path}: damaged (expected a quaternion of length 1 at most, found {length**0.5:.3g}); convert it again"
        )
    if 1 < length <= 1 + QUATERNION_SLACK:
        for name, part in zip(names, parts / np.sqrt(length), strict=True):
            header[name] = part


_Place = tuple[NDArray[np.float64], tuple[str, ...], bool]


def _place(path: Path, header: nib.Nifti1Header) -> _Place:
    """Return a header's checked affine in mm, notes about it, and whether sform and qform disagree."""
    code = int(header["xyzt_units"]) % 8
    unit = nib.nifti1.unit_codes.label[code] if code in nib.nifti1.unit_codes.code else "unknown"
    affine, notes = affine_in_mm(header.get_best_affine(), str(unit))
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        notes = (*notes, UNKNOWN_AXES)
    shape = header.get_data_shape()[:3]
    check_geometry(path, affine, shape)
    gap = _form_gap(header, (*shape, 1)[:3])
    if gap <= MAX_FORM_GAP_VOX:
        return affine, notes, False
    return affine, (*notes, f"sform and qform of the header differ by up to {gap:.3g} voxels; the sform is used"), True


def _form_gap(header: nib.Nifti1Header, shape: tuple[int, ...]) -> float:
    """Return the largest distance, in voxels, between where sform and qform put a voxel; 0 unless both are set."""
    if not (header["sform_code"] > 0 and header["qform_code"] > 0):
        return 0.0
    sform = header.get_sform().astype(np.float64)
    try:
        qform = header.get_qform().astype(np.float64)
    except (nib.spatialimages.HeaderDataError, ValueError):  # a damaged qform is ignored: the sform is used
        return 0.0
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    apart = (qform - sform)[:3, :3] @ corners + (qform - sform)[:3, 3:]
    gap = np.linalg.norm(np.linalg.solve(sform[:3, :3], apart), axis=0).max()
    return float(gap) if np.isfinite(gap) else np.inf


def _writable_header(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """Return a NIfTI-1 header of a single file, without the extensions."""
    header = header.copy()
    header["vox_offset"] = 0  # nibabel sets it when it writes, and warns of an unusual one
    return nib.Nifti1Header.from_header(header)
