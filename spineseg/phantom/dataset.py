"""Write a BIDS dataset of synthetic people with exact reference masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from spineseg.bids import datatype_of, derivative_path, format_stem, image_folder
from spineseg.errors import InputError
from spineseg.phantom.acquisition import (
    LOWER_PROTOCOLS,
    LOWER_S_MM,
    PROTOCOLS,
    TARGET_S_MM,
    Acquisition,
    Protocol,
    draw_acquisition,
    draw_pose,
)
from spineseg.phantom.anatomy import AnatomyParams, Compression, curve_mm, draw, draw_compression
from spineseg.phantom.contrast import NECK_COIL, bvec_lines, draw_contrast, property_table, render
from spineseg.phantom.course import DISC_S_MM
from spineseg.phantom.discs import label_discs, label_levels, true_areas
from spineseg.phantom.epi import EpiParams, bend, draw_epi, fade
from spineseg.phantom.sampling import sample_grid, voxel_points
from spineseg.reading import read_json
from spineseg.version import find_version
from spineseg.writing import compress, write_bytes, write_json, write_text

MAKER = "spineseg phantom"
"""Name in the dataset descriptions, which identifies a dataset of synthetic people."""

HARD_CASES = ("csf_loss", "low_snr", "touching", "short_fov", "compressed")
LOWER_CASES = ("none", "degenerated", "stenosis", "fracture", "eight_bits")
SUFFIXES = ("T1w", "T2w", "T2star", "dwi")  # contrasts of the demo; "bold" is made on request
_STREAMS = (*PROTOCOLS, "STIR")
# Separate random streams of one person, so that requesting fewer contrasts or people changes no other image.
_PERSON, _SESSION, _IMAGE = 0, 1, 2


@dataclass(frozen=True)
class SyntheticImage:
    """One image of a synthetic person.

    Parameters
    ----------
    data : (X, Y, Z) or (X, Y, Z, V) ndarray of int16
        On the stored axes.
    cord_fraction : (X, Y, Z) ndarray of float32, 0 to 1
        Fraction of each voxel that is spinal cord; the reference mask has the voxels with at least one half.
    acquisition : Acquisition
        The grid.
    """

    data: np.ndarray
    cord_fraction: np.ndarray
    acquisition: Acquisition


def subject_label(index: int) -> str:
    """Return the label of the person at a 0-based index: ``01``, ``02``, ..."""
    return f"{index + 1:02d}"


def hard_case(index: int, hard: str = "some") -> str:
    """Return the difficulty of the person at a 0-based index: every second person has the next of `HARD_CASES`.

    Examples
    --------
    >>> [hard_case(i) for i in range(4)]
    ['none', 'csf_loss', 'none', 'low_snr']
    """
    return HARD_CASES[(index // 2) % len(HARD_CASES)] if hard == "some" and index % 2 else "none"


def draw_person(seed: int, index: int, hard: str = "none", cord_scale: float = 1.0) -> AnatomyParams:
    """Draw the anatomy of one person of a dataset.

    Parameters
    ----------
    seed : int
        Seed of the dataset.
    index : int
        0-based; the person does not depend on how many people the dataset has.
    hard : str, default "none"
        A name of `HARD_CASES` or `LOWER_CASES`; `touching`, `compressed`, `stenosis` and `fracture` change the anatomy.
    cord_scale : float, default 1
        Width and depth of the cord relative to the person's, for the cord of a child or an atrophied one. The sac
        shrinks by half as much.

    Returns
    -------
    AnatomyParams
    """
    rng = np.random.default_rng([seed, index, _PERSON])
    params = draw(rng)
    params = replace(
        params,
        cord_ap=cord_scale * params.cord_ap,
        cord_rl=cord_scale * params.cord_rl,
        sac=(0.5 + 0.5 * cord_scale) * params.sac,
    )
    if hard == "compressed":
        return replace(params, compressions=(draw_compression(rng),))
    if hard == "touching":  # moves the sac by more than the film of fluid behind or beside the cord
        side = rng.choice([-1.0, 1.0])
        return replace(params, sac_shift_mm=(side * rng.uniform(1.5, 3.0), rng.choice([-1.0, 1.0]) * 2.4))
    if hard == "stenosis":  # discs L1/2 to L4/5 bulge
        bulges = [Compression(float(s), 5.0, float(rng.uniform(0.2, 0.55))) for s in DISC_S_MM[-5:-1]]
        return replace(params, compressions=tuple(bulges), bone=params.bone * 1.1)
    if hard == "fracture":  # a vertebra of the lower chest pushed back against the cord
        place = float(rng.choice((DISC_S_MM[11:16] + DISC_S_MM[12:17]) / 2))
        return replace(params, compressions=(Compression(place, 10.0, float(rng.uniform(0.25, 0.5))),))
    return params


def make_image(
    seed: int,
    index: int,
    suffix: str,
    *,
    session: int = 1,
    hard: str = "none",
    target_s_mm: float = TARGET_S_MM,
    cord_scale: float = 1.0,
) -> SyntheticImage:
    """Acquire one image of one person.

    Parameters
    ----------
    seed, index : int
        Dataset's seed and the person's 0-based index.
    suffix : {"T1w", "T2w", "T2star", "dwi", "bold"}
        Contrast.
    session : int, default 1
        Another session shows the same person in another position, with other noise.
    hard : str, default "none"
        A name of `HARD_CASES`.
    target_s_mm : float, mm
        Middle of the field of view, measured upwards from the foramen magnum: 90 is in the brain, -515 below the conus.
    cord_scale : float, default 1
        See `draw_person`.

    Returns
    -------
    SyntheticImage
    """
    person = draw_person(seed, index, hard, cord_scale)
    return _make_image(seed, index, suffix, PROTOCOLS[suffix], session, hard, target_s_mm, person)


def make_lower_image(seed: int, index: int, kind: str, *, hard: str = "none") -> SyntheticImage:
    """Acquire one image of the lower spine, mid thorax to sacrum.

    Parameters
    ----------
    kind : {"T1w", "T2w", "STIR"}
    hard : str, default "none"
        A name of `LOWER_CASES`; with `eight_bits` the image has 256 levels and its brightest thousandth is clipped.
    """
    person = draw_person(seed, index, hard)
    image = _make_image(seed, index, kind, LOWER_PROTOCOLS[kind], 1, hard, LOWER_S_MM, person)
    if hard != "eight_bits":
        return image
    levels = np.clip(image.data * (255 / np.percentile(image.data, 99.9)), 0, 255)
    return replace(image, data=np.rint(levels).astype(np.int16))


def _make_image(
    seed: int,
    index: int,
    kind: str,
    protocol: Protocol,
    session: int,
    hard: str,
    target_s_mm: float,
    person: AnatomyParams,
) -> SyntheticImage:
    """Acquire one image of a person by a protocol."""
    pose = draw_pose(np.random.default_rng([seed, index, _SESSION, session]))
    rng = np.random.default_rng([seed, index, _IMAGE, session, _STREAMS.index(kind)])
    # The appearance of tissues depends on person and contrast: two sessions differ in noise, pose and shading only.
    look = np.random.default_rng([seed, index, _IMAGE, 0, _STREAMS.index(kind)])
    contrast = draw_contrast(look, kind, hard)
    acquisition = draw_acquisition(rng, person, protocol, pose, short=hard == "short_fov", target_s_mm=target_s_mm)
    to_person = acquisition.pose @ acquisition.affine
    table = property_table(contrast)
    # a long field of view is covered by an array of coils
    coil = target_s_mm, max(NECK_COIL[1], 0.45 * protocol.fov_mm[2])
    if kind == "bold":
        epi = _draw_field(rng, person, acquisition.shape[2], to_person)
        sample = sample_grid(person, acquisition.shape, to_person, table, lambda points: bend(epi, points))
        points = voxel_points(acquisition.shape, to_person)
        data = render(
            sample, contrast, acquisition.thick_axis, rng, lambda fluid: fade(epi, sample, points, fluid), coil
        )
    else:
        sample = sample_grid(person, acquisition.shape, to_person, table)
        data = render(sample, contrast, acquisition.thick_axis, rng, coil=coil)
    fraction = sample.means[:, -1].reshape(acquisition.shape)
    return SyntheticImage(data if kind == "dwi" else data[..., 0], fraction, acquisition)


def _draw_field(rng: np.random.Generator, person: AnatomyParams, n_slices: int, to_person: np.ndarray) -> EpiParams:
    """Draw the field of an echo-planar acquisition of a person, whose third axis is that of the slices."""
    to_voxel = np.linalg.inv(to_person)
    height = to_person[2, 3] + to_person[2, 2] * np.array([-2.0, n_slices + 1.0])
    curve = curve_mm(person, np.linspace(height.min() - 30, height.max() + 30, 200))
    along = curve @ to_voxel[1:3, :3].T + to_voxel[1:3, 3]
    order = np.argsort(along[:, 1])
    return draw_epi(rng, np.interp(np.arange(n_slices), along[order, 1], along[order, 0]), to_voxel)


def write_dataset(
    folder: str | Path,
    n_subjects: int,
    seed: int,
    *,
    contrasts: Sequence[str] = SUFFIXES,
    hard: str = "some",
    rescan: bool = False,
    discs: bool = False,
    target_s_mm: float = TARGET_S_MM,
    report: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write a BIDS dataset of synthetic people.

    Parameters
    ----------
    folder : path
        Created if missing. If it already holds synthetic people, files of the same name are replaced.
    n_subjects : int
        Number of people, at least 1.
    seed : int
        The same seed gives the same bytes for each person, whatever the number of people.
    contrasts : sequence of str
        Suffixes from T1w, T2w, T2star, dwi, bold.
    hard : {"some", "none"}
        Whether every second person is hard to segment, see `hard_case`.
    rescan : bool, default False
        Whether everybody is scanned in two sessions.
    discs : bool, default False
        Whether to write labels of the discs from C1/C2 down and of the vertebral levels, beside the references.
    target_s_mm : float, mm
        Middle of the fields of view, as in `make_image`.
    report : callable, optional
        Called with the path of each image, relative to the folder, after it has been written.

    Returns
    -------
    list of Path
        The images, in order.

    Raises
    ------
    InputError
        If a contrast is unknown, the number of people is below 1, the folder holds a dataset of real people, or it
        cannot be written.
    """
    folder = Path(folder)
    unknown = [name for name in contrasts if name not in PROTOCOLS]
    if unknown:
        raise InputError(f"contrast: expected some of {', '.join(PROTOCOLS)}, found {unknown[0]!r}")
    if n_subjects < 1:
        raise InputError(f"number of subjects: expected 1 or more, found {n_subjects}")
    _check_is_ours(folder)
    _write_descriptions(folder, seed, rescan)
    images = []
    for index in range(n_subjects):
        for session in (1, 2) if rescan else (1,):
            for suffix in contrasts:
                case = hard_case(index, hard)
                image = make_image(seed, index, suffix, session=session, hard=case, target_s_mm=target_s_mm)
                path = _write_image(folder, image, seed, index, suffix, str(session) if rescan else "")
                images.append(path)
                if discs:
                    _write_levels(folder, image, draw_person(seed, index, case), path)
                if report is not None:
                    report(path.relative_to(folder).as_posix())
    # Written last, so that a folder with this table is complete.
    rows = [f"sub-{subject_label(i)}\t{hard_case(i, hard)}" for i in range(n_subjects)]
    write_text(folder / "participants.tsv", "\n".join(["participant_id\thard", *rows]) + "\n")
    return images


def _check_is_ours(folder: Path) -> None:
    """Refuse a folder with people that this module has not written, because synthetic people have the same names."""
    if not any(folder.glob("sub-*")):
        return
    description = folder / "dataset_description.json"
    try:
        is_ours = [one["Name"] for one in read_json(description, "description")["GeneratedBy"]] == [MAKER]
    except (InputError, KeyError, TypeError):  # none, damaged, or of another form
        is_ours = False
    if not is_ours:
        raise InputError(f"{folder}: expected no dataset, or one of synthetic people, found another; name a new folder")


def _write_descriptions(folder: Path, seed: int, rescan: bool) -> None:
    """Write the files that BIDS requires at the top of the dataset and of the references."""
    made_by = [{"Name": MAKER, "Version": find_version(), "Seed": seed}]
    common = {"BIDSVersion": "1.10.0", "License": "CC0", "GeneratedBy": made_by}
    write_json(folder / "dataset_description.json", {"Name": "Synthetic people", "DatasetType": "raw", **common})
    write_json(
        folder / "derivatives" / "labels" / "dataset_description.json",
        {"Name": "Exact spinal cord masks of synthetic people", "DatasetType": "derivative", **common},
    )
    levels = {
        "none": "no difficulty added",
        "csf_loss": "fluid on one side of the cord looks like cord",
        "low_snr": "about a quarter of the usual signal to noise",
        "touching": "the cord touches the wall of the canal; in T1w the wall is as bright as the cord",
        "short_fov": "small field of view, few slices",
        "compressed": "the cord is squeezed at one level",
    }
    hard = {"Description": "What makes the images of this person hard to segment", "Levels": levels}
    write_json(folder / "participants.json", {"hard": hard})
    text = "Synthetic people: no image here shows a real person.\n"
    write_text(folder / "README", text + ("Everybody was scanned in two sessions.\n" if rescan else ""))


def _write_image(folder: Path, image: SyntheticImage, seed: int, index: int, suffix: str, session: str) -> Path:
    """Write image, sidecars and reference of one acquisition; return the image's path."""
    subject, datatype = subject_label(index), datatype_of(suffix)
    stem = format_stem(subject, suffix, session=session)
    base = folder / image_folder(subject, session, datatype)
    affine, zooms = image.acquisition.affine, np.linalg.norm(image.acquisition.affine[:3, :3], axis=0)
    reference = folder / "derivatives" / "labels" / derivative_path(stem, subject, session, datatype)
    _write_nifti(reference, (image.cord_fraction >= 0.5).astype(np.uint8), affine)
    volume_mm3 = float(image.cord_fraction.sum(dtype=np.float64) * np.prod(zooms))
    write_json(
        reference.with_name(reference.name.removesuffix(".nii.gz") + ".json"),
        {
            "Label": "spinal cord",
            "Kind": "exact: voxels of which at least half is cord",
            "Sources": [f"bids:raw:{(base / stem).relative_to(folder).as_posix()}.nii.gz"],
            "CordVolume_mm3": round(volume_mm3, 3),
        },
    )
    write_json(base / f"{stem}.json", {"Modality": "MR", "MagneticFieldStrength": 3, "Synthetic": True, "Seed": seed})
    if suffix == "dwi":
        values, vectors = bvec_lines(affine)
        write_text(base / f"{stem}.bval", " ".join(map(str, values)) + "\n")
        write_text(base / f"{stem}.bvec", "\n".join(" ".join(f"{x:.6f}" for x in row) for row in vectors + 0.0) + "\n")
    _write_nifti(base / f"{stem}.nii.gz", image.data, affine)
    return base / f"{stem}.nii.gz"


def _write_levels(folder: Path, image: SyntheticImage, person: AnatomyParams, path: Path) -> None:
    """Write disc labels, with true cord areas between discs, and levels, under the names that other tools expect."""
    beside = folder / "derivatives" / "labels" / path.relative_to(folder).parent
    stem, affine = path.name.removesuffix(".nii.gz"), image.acquisition.affine
    discs = label_discs(person, image.acquisition)
    source = {"Kind": "exact", "Sources": [f"bids:raw:{path.relative_to(folder).as_posix()}"]}
    _write_nifti(beside / f"{stem}_label-discs_dlabel.nii.gz", discs, affine)
    write_json(beside / f"{stem}_label-discs_dlabel.json", source | {"CordArea_mm2": true_areas(person, discs)})
    levels = label_levels(person, image.acquisition, image.cord_fraction >= 0.5)
    _write_nifti(beside / f"{stem}_label-spine_dseg.nii.gz", levels, affine)
    write_json(beside / f"{stem}_label-spine_dseg.json", source)


def _write_nifti(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write an array with the same affine as sform and qform; equal arrays give equal bytes."""
    nifti = nib.Nifti1Image(data, affine)
    nifti.set_qform(affine, code="scanner")
    nifti.set_sform(affine, code="scanner")
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header["descrip"] = b"spineseg phantom"
    write_bytes(path, compress(nifti.to_bytes()))
