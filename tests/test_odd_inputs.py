"""Many kinds of bad and odd images and masks: each by a command, and all of them together in one study."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from made_study import CHUNK, study_folder, study_image, write_chunk, write_index, write_result

from spineseg.cli import main
from spineseg.measures import PlausibleLimits
from spineseg.study.measure import measure_chunk
from spineseg.studyfolder.decisions import read_membership
from spineseg.studyfolder.images import read_images
from spineseg.studyfolder.manifests import read_manifest
from spineseg.studyfolder.sidecars import read_sidecar

REFUSED, READ, NOTED = "refused", "read", "read, note"
FAILED, LEFT_OUT, NOT_USED = "failed, with the reason", "left out, with the reason", "not used, with the reason"

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
I, J, K = np.indices((48, 48, 8))
RADIUS = np.hypot(I - 23.5, J - 23.5) / 2  # mm
CORD = RADIUS < 4
SOFT = ((4.25 - RADIUS) * 2).clip(0, 1)


@dataclass(frozen=True)
class Case:
    """How a file is made in a folder under a stem, its expected outcomes, and words of the message."""

    make: Callable[[Path], Path]
    by_command: str
    in_study: str
    words: str = ""
    contrast: str = "t2"


def picture() -> np.ndarray:
    """A dark cord in bright fluid in grey tissue, int16."""
    rng = np.random.default_rng(4)
    values = np.select([RADIUS < 4, RADIUS < 7, RADIUS < 9], [300, 900, 120], 400)
    return (values + rng.normal(0, 15, RADIUS.shape)).astype(np.int16)


PICTURE = picture()[:, :, :2]  # few slices: propseg sees each of them often


def content(data: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image) -> bytes:
    """The bytes of a file with sform and qform."""
    image = kind(data, affine)
    if np.isfinite(affine).all() and 1e-3 < abs(np.linalg.det(affine)) < 1e6:
        image.set_qform(affine, 1)
    return image.to_bytes()


def put(raw: bytes, end: str = ".nii.gz") -> Callable[[Path], Path]:
    """A file of these bytes, compressed if its name says so."""

    def make(stem: Path) -> Path:
        path = stem.with_name(stem.name + end)
        path.write_bytes(gzip.compress(raw, 1) if end.endswith(".gz") else raw)
        return path

    return make


def put_as_it_is(raw: bytes, end: str = ".nii.gz") -> Callable[[Path], Path]:
    """A file of these bytes whatever its name says."""

    def make(stem: Path) -> Path:
        path = stem.with_name(stem.name + end)
        path.write_bytes(raw)
        return path

    return make


def field(offset: int, form: str, *values: Any, raw: bytes | None = None) -> bytes:
    """The picture's bytes with a field of the header changed."""
    changed = bytearray(content(PICTURE) if raw is None else raw)
    struct.pack_into(form, changed, offset, *values)
    return bytes(changed)


def forms(raw: bytes, qform: int, sform: int) -> bytes:
    """The same with these codes."""
    return field(252, "<2h", qform, sform, raw=raw)


def scaled(factors: tuple[float, float, float]) -> bytes:
    """The picture with voxels larger by these factors."""
    return content(PICTURE, AFFINE @ np.diag([*factors, 1.0]))


def sheared() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 1] = 0.2
    return affine


def moved(x: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = x
    return affine


def with_values(*places_and_values: tuple[slice | int, float]) -> np.ndarray:
    data = PICTURE.astype(np.float32)
    for place, value in places_and_values:
        data[place] = value
    return data


def series(*odd: float) -> np.ndarray:
    data = np.stack([PICTURE.astype(np.float32)] * 3, axis=-1)
    for value in odd:
        data[:, :, :, 1] = value
    return data


def with_sidecar(raw: bytes, end: str, text: str) -> Callable[[Path], Path]:
    def make(stem: Path) -> Path:
        stem.with_name(stem.name + end).write_text(text)
        return put(raw)(stem)

    return make


def link(target: str | None) -> Callable[[Path], Path]:
    def make(stem: Path) -> Path:
        path = stem.with_name(f"{stem.name}.nii.gz")
        path.symlink_to(path.name if target is None else target)
        return path

    return make


def folder(stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.nii.gz")
    path.mkdir()
    return path


def pipe(stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.nii.gz")
    os.mkfifo(path)
    return path


def named(middle: str) -> Callable[[Path], Path]:
    """The picture under a name with an odd part."""

    def make(stem: Path) -> Path:
        subject, suffix = stem.name.split("_")
        return put(content(PICTURE))(stem.with_name(f"{subject}_{middle}_{suffix}"))

    return make


def elsewhere(*parts: str) -> Callable[[Path], Path]:
    """The picture in another folder of its person."""

    def make(stem: Path) -> Path:
        place = stem.parents[1].joinpath(*parts)
        place.mkdir(parents=True)
        return put(content(PICTURE))(place / stem.name)

    return make


def flipped(place: float) -> bytes:
    raw = bytearray(gzip.compress(content(PICTURE), 1))
    raw[int(place * len(raw))] ^= 1
    return bytes(raw)


GOOD = content(PICTURE)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
PACKED = gzip.compress(GOOD, 1)
DWI = content(series())

IMAGES = {
    "a good image": Case(put(GOOD), READ, READ),
    "an empty file": Case(put_as_it_is(b""), REFUSED, FAILED, "empty file"),
    "text": Case(put_as_it_is(b"404 not found\n" * 40), REFUSED, FAILED, "another format"),
    "compressed text": Case(put(b"404 not found\n" * 40), REFUSED, FAILED, "another format"),
    "truncated": Case(put_as_it_is(PACKED[:-2000]), REFUSED, FAILED, "damaged or truncated"),
    "without its last byte": Case(put_as_it_is(PACKED[:-1]), REFUSED, FAILED, "damaged or truncated"),
    "one bit flipped early": Case(put_as_it_is(flipped(0.1)), REFUSED, FAILED, "damaged"),
    "one bit flipped late": Case(put_as_it_is(flipped(0.9)), REFUSED, FAILED, "damaged"),
    "a wrong checksum": Case(put_as_it_is(PACKED[:-8] + bytes(8)), REFUSED, FAILED, "damaged"),
    "followed by other bytes": Case(put_as_it_is(PACKED + b"more"), REFUSED, FAILED, "damaged"),
    "followed by a second image": Case(put_as_it_is(PACKED * 2), REFUSED, FAILED, "damaged"),
    "followed by zeros, as padding": Case(put_as_it_is(PACKED + bytes(512)), READ, READ),
    "compressed twice": Case(put(PACKED), REFUSED, FAILED, "another format"),
    "not compressed, named .nii.gz": Case(put_as_it_is(GOOD), REFUSED, FAILED, "not compressed but named with .gz"),
    "compressed, named .nii": Case(put_as_it_is(PACKED, ".nii"), REFUSED, FAILED, "compressed but named without .gz"),
    "not compressed": Case(put(GOOD, ".nii"), READ, READ),
    ".nii, truncated": Case(put(GOOD[:-100], ".nii"), REFUSED, FAILED, "damaged or truncated"),
    ".nii, too long": Case(put(GOOD + bytes(100), ".nii"), REFUSED, FAILED, "damaged or truncated"),
    "only a header": Case(put(GOOD[:352], ".nii"), REFUSED, FAILED, "damaged or truncated"),
    "half a header": Case(put(GOOD[:200], ".nii"), REFUSED, FAILED, "another format"),
    "claims 1200 x 1200 x 1200": Case(put(field(42, "<3h", 1200, 1200, 1200)), REFUSED, FAILED, "header that claims"),
    "claims twice its voxels": Case(put(field(46, "<h", 4)), REFUSED, FAILED, "damaged or truncated"),
    "claims half its voxels": Case(put(field(46, "<h", 1)), REFUSED, FAILED, "damaged"),
    "a negative size": Case(put(field(44, "<h", -48)), REFUSED, FAILED, "expected 2 to 4 dimensions"),
    "no dimensions": Case(put(field(40, "<h", 0)), REFUSED, FAILED, "dim"),
    "eight dimensions": Case(put(field(40, "<h", 8)), REFUSED, FAILED, "damaged"),
    "one dimension": Case(put(content(np.arange(48, dtype=np.int16))), REFUSED, FAILED, "expected 2 to 4 dimensions"),
    "two dimensions": Case(put(content(PICTURE[:, :, 1])), READ, READ),
    "four dimensions": Case(put(content(series())), NOTED, NOTED, "mean of 3 volumes"),
    "five dimensions, the last two of size 1": Case(put(content(PICTURE[..., None, None])), READ, READ),
    "five dimensions": Case(put(content(series()[..., None, :])), REFUSED, FAILED, "expected an image or a series"),
    "one volume of a series is NaN": Case(put(content(series(np.nan))), NOTED, NOTED, "mean"),
    "all NaN": Case(put(content(with_values((slice(None), np.nan)))), REFUSED, FAILED, "no finite value"),
    "some NaN": Case(put(content(with_values((slice(2), np.nan)))), NOTED, NOTED, "NaN or infinite"),
    "some infinite values": Case(put(content(with_values((0, np.inf)))), NOTED, NOTED, "NaN or infinite"),
    "one value 1e20": Case(put(content(with_values((0, 1e20)))), REFUSED, FAILED, "expected values between"),
    "all zero": Case(put(content(PICTURE * 0)), REFUSED, FAILED, "found 0 in every voxel"),
    "the same value everywhere": Case(put(content(PICTURE * 0 + 7)), REFUSED, FAILED, "found 7 in every voxel"),
    "a mask": Case(put(content(CORD[:, :, :2].astype(np.uint8))), NOTED, NOTED, "is it a mask"),
    "complex numbers": Case(put(content(PICTURE.astype(np.complex64))), REFUSED, FAILED, "one number per voxel"),
    "RGB colours": Case(
        put(content(np.zeros(PICTURE.shape, [(c, "u1") for c in "RGB"]))), REFUSED, FAILED, "one number per voxel"
    ),
    "double precision": Case(put(content(PICTURE.astype(np.float64))), READ, READ),
    "an unknown data type": Case(put(field(70, "<h", 9999)), REFUSED, FAILED, "damaged"),
    "no data type": Case(put(field(70, "<h", 0)), REFUSED, FAILED, "damaged"),
    "another magic word": Case(put(field(344, "4s", b"abc\0")), REFUSED, FAILED, "another format"),
    "another byte order": Case(
        put(nib.Nifti1Image(PICTURE, AFFINE, nib.Nifti1Header(endianness=">")).to_bytes()), READ, READ
    ),
    "NIfTI-2": Case(put(content(PICTURE, kind=nib.Nifti2Image)), READ, READ),
    "in micrometres": Case(put(field(123, "b", 3, raw=scaled((1e3, 1e3, 1e3)))), NOTED, NOTED, "micron; converted"),
    "in metres": Case(put(field(123, "b", 1, raw=scaled((1e-3, 1e-3, 1e-3)))), NOTED, NOTED, "metre; converted"),
    "in mm, but the header says micrometres": Case(put(field(123, "b", 3)), READ, READ),
    "an unknown unit": Case(put(field(123, "b", 7)), READ, READ),
    "voxels of 0.01 mm": Case(put(scaled((0.02, 0.02, 0.005))), REFUSED, FAILED, "expected voxel edges"),
    "voxels of 100 mm": Case(put(scaled((1, 1, 50))), REFUSED, FAILED, "expected voxel edges"),
    "voxels of 0 mm": Case(put(forms(field(80, "<3f", 0, 0, 0), 1, 0)), REFUSED, FAILED, "voxels with a size"),
    "1.4 m wide": Case(put(scaled((59, 1, 1))), REFUSED, FAILED, "expected a field of view"),
    "an affine with NaN": Case(put(field(280, "<f", np.nan)), REFUSED, FAILED, "expected an affine in mm"),
    "an affine with infinity": Case(put(field(280, "<f", np.inf)), REFUSED, FAILED, "expected an affine in mm"),
    "an affine of 1e30": Case(put(field(280, "<f", 1e30)), REFUSED, FAILED, "expected an affine in mm"),
    "an affine of 1e-30": Case(put(field(280, "<f", 1e-30)), REFUSED, FAILED, "expected voxel"),
    "an affine of zeros": Case(put(field(280, "<12f", *[0] * 12)), REFUSED, FAILED, "voxels with a size"),
    "sheared by 22 degrees": Case(
        put(forms(content(PICTURE, sheared()), 0, 1)), REFUSED, FAILED, "voxels with right angles"
    ),
    "10 km from the origin": Case(put(content(PICTURE, moved(1e7))), REFUSED, FAILED, "expected an origin"),
    "no orientation": Case(put(forms(GOOD, 0, 0)), NOTED, NOTED, "no orientation"),
    "orientation from the quaternion only": Case(put(forms(GOOD, 1, 0)), READ, READ),
    "sform and qform 20 mm apart": Case(put(field(268, "<f", 20.0)), NOTED, NOTED, "sform and qform"),
    "a quaternion too long by a rounding error": Case(
        put(forms(field(256, "<3f", 0, 1.0002, 0), 1, 0)), READ, READ
    ),
    "a quaternion of length 2": Case(
        put(forms(field(256, "<3f", 0, 2, 0), 1, 0)), REFUSED, FAILED, "quaternion of length 1"
    ),
    "a slope of 1e38": Case(put(field(112, "<f", 1e38)), REFUSED, FAILED, "expected"),
    "an infinite slope": Case(put(field(112, "<f", np.inf)), REFUSED, FAILED, "scl_slope is infinite"),
    "a slope of NaN": Case(put(field(112, "<2f", np.nan, np.nan)), READ, READ),
    "a slope of 0": Case(put(field(112, "<2f", 0, 5)), READ, READ),
    "an infinite intercept": Case(put(field(112, "<2f", 1, np.inf)), REFUSED, FAILED, "scl_inter is infinite"),
    "voxel data inside the header": Case(put(field(108, "<f", 100)), REFUSED, FAILED, "damaged"),
    "voxel data from byte 1e10": Case(put(field(108, "<f", 1e10)), REFUSED, FAILED, "damaged"),
    "dwi without b-values": Case(put(DWI), NOTED, NOTED, "no b-values were found", "dwi"),
    "dwi with b-values": Case(with_sidecar(DWI, ".bval", "0 800 800"), NOTED, NOTED, "mean of 2 of 3", "dwi"),
    "dwi with too few b-values": Case(with_sidecar(DWI, ".bval", "0 8"), REFUSED, FAILED, "expected 3 b-values", "dwi"),
    "dwi with text as b-values": Case(with_sidecar(DWI, ".bval", "a b c"), REFUSED, FAILED, "found other text", "dwi"),
    "dwi with a b-value below 0": Case(with_sidecar(DWI, ".bval", "0 -8 8"), REFUSED, FAILED, "found -8", "dwi"),
    "a pointer of Git LFS": Case(
        put_as_it_is(LFS), REFUSED, LEFT_OUT, "git lfs"
    ),
    "a link of git-annex without content": Case(
        link("../../.git/annex/objects/X/Y/SHA256E-s9--0.nii.gz"), REFUSED, LEFT_OUT, "datalad get"
    ),
    "a link to nothing": Case(link("gone.nii.gz"), REFUSED, LEFT_OUT, "link"),
    "a link to itself": Case(link(None), REFUSED, LEFT_OUT, "link"),
    "a folder": Case(folder, REFUSED, LEFT_OUT, "folder"),
    "a pipe": Case(pipe, REFUSED, LEFT_OUT, "no"),
    "a name of 240 characters": Case(named("acq-" + "a" * 217), READ, LEFT_OUT, "shorten its own"),
    "an escape code in its name": Case(named("acq-\x1b[31m"), READ, LEFT_OUT, "control character"),
    "a line break in its name": Case(named("acq-a\nb"), READ, LEFT_OUT, "line break"),
    "quotes and spaces in its name": Case(named("acq-a 'b\""), READ, LEFT_OUT, "name"),
    "in the folder fmap": Case(elsewhere("fmap"), READ, LEFT_OUT, "fmap"),
    "a T2w in the folder dwi": Case(elsewhere("dwi"), READ, LEFT_OUT, "anat"),
    "in a subfolder of anat": Case(elsewhere("anat", "old"), READ, LEFT_OUT, "folder"),
}  # fmt: skip


def run(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command; return exit code, output and errors."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def stem_of(path: Path) -> str:
    """The file's name without its extensions."""
    return path.name.split(".")[0]


def fits_command(case: Case, path: Path, code: int, said: str) -> bool:
    """Say whether exit code and message are as expected; a refusal is one line that names the file."""
    errors = [line for line in said.splitlines() if ": error: " in line]
    if "Traceback" in said or not all(line.isprintable() for line in said.splitlines()):
        return False
    if case.by_command == REFUSED:
        return code == 2 and len(errors) == 1 and stem_of(path) in errors[0] and case.words in errors[0]
    if case.by_command == NOTED:
        return code == 0 and not errors and case.words in said
    return code == 0 and not errors and "warning" not in said


def test_odd_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bids, made, wrong = tmp_path / "bids", {}, []
    for number, (name, case) in enumerate(IMAGES.items(), start=1):
        kind, suffix = ("dwi", "dwi") if case.contrast == "dwi" else ("anat", "T2w")
        place = bids / f"sub-{number:03}" / kind
        place.mkdir(parents=True)
        made[name] = case.make(place / f"sub-{number:03}_{suffix}")
    for contrast in ("t2", "dwi"):
        paths = [made[name] for name, case in IMAGES.items() if case.contrast == contrast]
        code, _, said = run(["propseg", "-i", *paths, "-c", contrast, "-ofolder", "out", "-v", 1], capsys)
        assert code == 2
        for name, case in IMAGES.items():
            if case.contrast != contrast:
                continue
            own = [line for line in said.splitlines() if f"/{stem_of(made[name])}" in line]
            sidecar = read_sidecar(Path("out") / f"{stem_of(made[name])}_seg.nii.gz")
            own += [f"warning: {note}" for note in (sidecar.notes if sidecar else ())]
            if not fits_command(case, made[name], 0 if sidecar else 2, "\n".join(own)):
                wrong.append((name, own))

    config = {"dataset": "odd", "bids_dir": str(bids), "methods": ["propseg"]}
    Path("study.json").write_text(json.dumps(config))
    folder = study_folder(tmp_path, "odd")
    options = ["-results", folder.root, "-config", "study.json"]
    assert run(["index", *options, "-chunk-size", 1000], capsys)[0] == 0
    rows = {row.path.partition("sub-")[2][:3]: row for row in read_images(folder.images)}
    entries = {}
    for chunk in sorted(set(read_membership(folder).chunks.values())):
        assert run(["segment", *options, "-method", "propseg", "-chunk", chunk], capsys)[0] == 0
        assert run(["measure", *options, "-methods", "propseg", "-chunk", chunk], capsys)[0] == 0
        entries |= read_manifest(folder.manifest("propseg", chunk)).entries
    for name, case in IMAGES.items():
        row = rows[str(made[name]).partition("sub-")[2][:3]]
        if not row.included:
            if case.in_study != LEFT_OUT or case.words not in row.reason or not row.reason.isprintable():
                wrong.append((name, row))
            continue
        entry, sidecar = entries[row.image_id], read_sidecar(folder.mask(row, "propseg"))
        said = "; ".join((entry.message, *sidecar.notes))
        status = FAILED if entry.status == "failed" else NOTED if sidecar.notes else READ
        if status != case.in_study or case.words not in said:
            wrong.append((name, status, said))
    assert not wrong, "\n".join(map(str, wrong))


TRUE_AREA = float(CORD[:, :, 0].sum()) * 0.25
SOFT_AREA = float(SOFT[:, :, 0].sum()) * 0.25
ONE = np.uint8(1)


def mask(data: np.ndarray, affine: np.ndarray = AFFINE, end: str = ".nii.gz") -> Callable[[Path], Path]:
    return put(content(data, affine), end)


def changed(data: np.ndarray, place: tuple[int, ...] | np.ndarray, value: float) -> np.ndarray:
    data = data.astype(np.float32)
    data[place] = value
    return data


def stored_with(data: np.ndarray, slope: float, inter: float = 0.0) -> Callable[[Path], Path]:
    return put(field(112, "<2f", slope, inter, raw=content(data)))


def other_format(kind: type, end: str, data: np.ndarray = CORD.astype(np.uint8)) -> Callable[[Path], Path]:  # noqa: B008
    def make(stem: Path) -> Path:
        path = stem.with_name(stem.name + end)
        nib.save(kind(data, AFFINE), path)
        return path

    return make


BINARY, SOFT_255 = CORD.astype(np.uint8), (SOFT * 255).round().astype(np.uint8)
CENTER = (23, 23, 4)
PACKED_MASK = gzip.compress(content(BINARY))

MASKS = {
    "0 and 1": Case(mask(BINARY), READ, READ),
    "0 and 255": Case(mask(BINARY * 255), READ, READ),
    "0 and 7": Case(mask(BINARY * 7), READ, READ),
    "0 and 70000": Case(mask(BINARY.astype(np.int32) * 70000), READ, READ),
    "soft": Case(mask(SOFT.astype(np.float32)), READ, READ),
    "soft, one voxel 1.004": Case(mask(changed(SOFT, CENTER, 1.004)), NOTED, NOTED, "clipped to 1"),
    "soft, one voxel 1.2": Case(mask(changed(SOFT, CENTER, 1.2)), REFUSED, NOT_USED, "is it an image"),
    "soft, scaled to 255": Case(mask(SOFT_255), NOTED, NOTED, "divided by 255"),
    "soft, scaled to 100": Case(mask((SOFT * 100).round().astype(np.uint8)), NOTED, NOTED, "divided by 100"),
    "soft, scaled to 37": Case(mask((SOFT * 37).astype(np.float32)), REFUSED, NOT_USED, "is it an image"),
    "soft, stored with a slope of 1/255": Case(stored_with(SOFT_255, 1 / 255), READ, READ),
    "binary, with a slope of 1/255": Case(stored_with(BINARY * 255, 1 / 255), READ, READ),
    "binary, with a slope of 2": Case(stored_with(BINARY, 2), READ, READ),
    "binary, with a slope of 0.3": Case(stored_with(BINARY, 0.3), REFUSED, NOT_USED, "check the slope"),
    "binary, with a slope of -1": Case(stored_with(BINARY, -1), REFUSED, NOT_USED, "is it an image"),
    "binary, with an intercept of -1": Case(stored_with(BINARY + ONE, 1, -1), READ, READ),
    "binary, with an intercept of 0.5": Case(stored_with(BINARY, 1, 0.5), REFUSED, NOT_USED, "is it an image"),
    "soft, below 0.5 everywhere": Case(
        mask((SOFT * (0.2 + I / 240)).astype(np.float32)), NOTED, NOT_USED, "reaches 0.5"
    ),
    "several labels": Case(mask(BINARY + BINARY * (K > 3)), REFUSED, NOT_USED, "found the labels 1, 2"),
    "negative values": Case(mask(changed(BINARY, (0, 0, 0), -1)), REFUSED, NOT_USED, "is it an image"),
    "a rounding error below 0": Case(mask(changed(BINARY, (0, 0, 0), -1e-9)), READ, READ),
    "an infinite value": Case(mask(changed(BINARY, (0, 0, 0), np.inf)), REFUSED, NOT_USED, "is it an image"),
    "NaN around it": Case(mask(changed(BINARY, RADIUS > 10, np.nan)), NOTED, NOTED, "NaN and count as 0"),
    "all NaN": Case(mask(np.full(CORD.shape, np.nan, np.float32)), NOTED, NOT_USED, "NaN and count as 0"),
    "empty": Case(mask(BINARY * 0), NOTED, NOT_USED, "empty"),
    "full": Case(mask(BINARY * 0 + ONE), REFUSED, NOT_USED, "no voxel outside"),
    "the image": Case(mask(picture()), REFUSED, NOT_USED, "is it an image"),
    "the image, scaled to 1": Case(mask((picture() / 1000).astype(np.float32)), REFUSED, NOT_USED, "is it an image"),
    "noise between 0 and 1": Case(
        mask(np.random.default_rng(1).random(CORD.shape).astype(np.float32)), REFUSED, NOT_USED, "is it an image"
    ),
    "4-D": Case(mask(np.stack([BINARY, BINARY], -1)), REFUSED, NOT_USED, "expected a mask of 3 dimensions"),
    "5-D": Case(mask(np.stack([BINARY, BINARY], -1)[..., None, :]), REFUSED, NOT_USED, "3 dimensions"),
    "4-D, the last of size 1": Case(mask(BINARY[..., None]), READ, READ),
    "5-D, the last two of size 1": Case(mask(BINARY[..., None, None]), READ, READ),
    "another byte order": Case(
        put(nib.Nifti1Image(BINARY.astype(np.int16), AFFINE, nib.Nifti1Header(endianness=">")).to_bytes()), READ, READ
    ),
    "NIfTI-2": Case(put(content(BINARY, kind=nib.Nifti2Image)), READ, READ),
    "axes in another order": Case(
        mask(np.moveaxis(BINARY, 2, 0), AFFINE[:, [2, 0, 1, 3]]), READ, NOT_USED, "expected the image's axes"
    ),
    "one axis reversed": Case(
        mask(BINARY[::-1], AFFINE @ np.array([[-1, 0, 0, 47], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
        *(READ, NOT_USED, "in another order; save it by the image's axes"),
    ),
    ".mgz, from FreeSurfer": Case(other_format(nib.MGHImage, ".mgz"), READ, READ),
    ".img and .hdr": Case(other_format(nib.Nifti1Pair, ".img"), READ, READ),
    "in micrometres": Case(
        put(field(123, "b", 3, raw=content(BINARY, AFFINE @ np.diag([1e3, 1e3, 1e3, 1])))), NOTED, NOTED, "converted"
    ),
    "sform and qform 20 mm apart": Case(put(field(268, "<f", 20.0, raw=content(BINARY))), NOTED, NOTED, "sform"),
    "with another slice thickness": Case(mask(BINARY, AFFINE @ np.diag([1, 1, 1.5, 1])), READ, NOT_USED, "affine"),
    "moved by a voxel": Case(mask(BINARY, moved(0.5)), READ, NOT_USED, "affine"),
    "moved by a rounding error": Case(mask(BINARY, moved(0.001)), READ, READ),
    "with one slice less": Case(mask(BINARY[:, :, 1:]), READ, NOT_USED, "grid"),
    "truncated": Case(put_as_it_is(PACKED_MASK[:-20]), REFUSED, NOT_USED, "damaged or truncated"),
    "a wrong checksum": Case(put_as_it_is(PACKED_MASK[:-8] + bytes(8)), REFUSED, NOT_USED, "damaged"),
    "an empty file": Case(put_as_it_is(b""), REFUSED, NOT_USED, "empty file"),
    "text": Case(put_as_it_is(b"404 not found\n" * 40), REFUSED, NOT_USED, "another format"),
    "complex numbers": Case(mask(BINARY.astype(np.complex64)), REFUSED, NOT_USED, "one number per voxel"),
    "a folder": Case(folder, REFUSED, NOT_USED, "folder"),
    "a link to itself": Case(link(None), REFUSED, NOT_USED, ""),
    "a pointer of Git LFS": Case(
        put_as_it_is(LFS), REFUSED, NOT_USED, "git lfs"
    ),
}  # fmt: skip


def test_odd_masks(tmp_path, capsys):
    folder, images, entries, wrong = study_folder(tmp_path), [], [], []
    for number, (name, case) in enumerate(MASKS.items(), start=1):
        path = case.make(tmp_path / f"sub-{number:03}_T2w_seg")
        code, out, said = run(["csa", "-i", path, "--json"], capsys)
        if not fits_command(case, path, code, said):
            wrong.append((name, code, said))
        if code == 0 and case.in_study in (READ, NOTED):
            (row,) = json.loads(out)
            if row["csa_mm2"] != pytest.approx(SOFT_AREA if "soft" in name else TRUE_AREA, rel=0.005):
                wrong.append((name, row["csa_mm2"]))
        images.append(study_image(f"{number:03}", reference=str(path)))
        entries.append(write_result(folder, images[-1], "a", CORD, affine=AFFINE))
    write_index(folder, images)
    write_chunk(folder, "a", entries)
    rows = measure_chunk(folder, CHUNK, ["a"], PlausibleLimits()).metrics
    for measured, (name, case) in zip(rows, MASKS.items(), strict=True):
        said, dice = measured.message, measured.values.get("dice", 0.0)
        status = NOT_USED if "reference not used: " in said else NOTED if "reference " in said else READ
        if status != case.in_study or case.words not in said or (dice > 0.98) == (status == NOT_USED):
            wrong.append((name, status, said, dice))
    assert not wrong, "\n".join(map(str, wrong))
