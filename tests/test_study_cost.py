"""The estimated cost of a run, and the check of free space before it starts."""

from __future__ import annotations

import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from spineseg.errors import InputError
from spineseg.study.configuration import make_configuration
from spineseg.study.cost import check_space, estimate_cost
from spineseg.study.draft import draft_configuration
from spineseg.study.standing import MaskCount, list_images, wanted_masks
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.locks import KeptMethods
from spineseg.studyfolder.manifests import Timing, write_timings

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def bids(tmp_path) -> Path:
    """Thirty people with two images each, whose content nothing reads."""
    for n in range(30):
        folder = tmp_path / "bids" / f"sub-{n:02d}" / "anat"
        folder.mkdir(parents=True)
        for suffix in ("T1w", "T2w"):
            (folder / f"sub-{n:02d}_{suffix}.nii.gz").write_text("not read")
    return tmp_path / "bids"


def count_masks(bids: Path, stage: Stage, method: str | None = None, **keys: object) -> tuple[MaskCount, StudyFolder]:
    config = make_configuration(
        {"dataset": "x", "bids_dir": str(bids), "pilot": {"subjects": {"n": 10, "seed": 1}}} | keys
    )
    folder = StudyFolder(bids.parent / "results" / "x")
    images, chunk_of = list_images(folder, config)
    wanted = wanted_masks(images, config, stage, KeptMethods(method))
    return MaskCount(folder, config, wanted, chunk_of, time.time_ns()), folder


def test_masks_of_each_stage(bids):
    n_pilot, n_rest = 20, 40
    assert len(count_masks(bids, Stage.PILOT)[0].wanted) == 2 * n_pilot
    assert len(count_masks(bids, Stage.ALL)[0].wanted) == 2 * (n_pilot + n_rest)
    study, _ = count_masks(bids, Stage.STUDY, "propseg")
    assert len(study.wanted) == 2 * n_pilot + n_rest
    exception = {"method": "deepseg", "reason": "r", "by": "b"}
    rest = next(one.image.image_id for one in study.wanted if not one.image.pilot)
    other, _ = count_masks(bids, Stage.STUDY, "propseg", exceptions={rest: exception})
    assert [one.method for one in other.wanted if one.image.image_id == rest] == ["deepseg"]


def test_the_time_is_estimated_from_finished_images(bids):
    count, folder = count_masks(bids, Stage.PILOT)
    guess = estimate_cost(folder, count.config, count, 2)
    assert guess.n_masks == 40
    assert guess.n_done == 0
    assert guess.measured == ()
    for method in ("propseg", "deepseg"):
        path = folder.chunk_timings(method, "pilot-0001")
        path.parent.mkdir(parents=True)
        write_timings(path, [Timing("a", method, 100.0, None), Timing("b", method, 300.0, None)])
    measured = estimate_cost(folder, count.config, count, 2)
    assert measured.measured == ("propseg", "deepseg")
    assert 40 * 200 / 3600 < measured.core_hours < 40 * 220 / 3600
    # copies of the pilot's images are segmented as well
    thrice, _ = count_masks(bids, Stage.PILOT, decision={"perturbations": 2})
    assert estimate_cost(folder, thrice.config, thrice, 2).core_hours > 2.5 * measured.core_hours


def test_a_run_that_does_not_fit_on_the_disk_does_not_start(bids, monkeypatch):
    count, folder = count_masks(bids, Stage.PILOT)
    cost = estimate_cost(folder, count.config, count, 2)
    check_space(cost, bids)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 2**20))
    with pytest.raises(InputError, match=r"MiB of free space for 40 masks and their pictures, found 1; free space"):
        check_space(cost, bids)


def test_a_draft_says_what_was_found_and_fits_the_schema(bids):
    import yaml

    (bids / "participants.tsv").write_text("participant_id\tsex\tsite\nsub-00\tF\tone\n")
    masks = bids / "derivatives" / "drawn" / "sub-03" / "anat"
    masks.mkdir(parents=True)
    (masks / "sub-03_T2w_seg-manual.nii.gz").write_text("not read")
    (bids / "sub-05" / "func").mkdir()
    (bids / "sub-05" / "func" / "sub-05_task-rest_bold.nii.gz").write_text("not read")
    (bids / "sub-05" / "anat" / "sub-05_UNIT1.nii.gz").write_text("not read")
    text, found = draft_configuration(bids, "bids")
    drafted = yaml.safe_load(text)
    assert drafted["pilot"] == {"subjects": {"n": 10, "seed": 1}}
    assert drafted["contrasts"] == ["T1w", "T2w"]
    assert drafted["references"] == "derivatives/drawn"
    assert "participants.tsv has sex, site" in text.replace("\n# ", " ")
    assert "1 bold" in text.replace("\n# ", " ")
    assert "of unknown contrast: 1 UNIT1" in text.replace("\n# ", " ")
    assert "not segmented unless config key contrasts says what they show: 1 UNIT1" in found
    assert found[0].endswith("30 people; images: 30 T1w, 30 T2w, 1 bold")  # no sessions if the names have none
    assert make_configuration(drafted).pilot.n == 10
    # every key is there, set or as a comment with its default
    commented = "\n".join(line.removeprefix("# ") for line in text.splitlines() if ": " in line)
    for key in make_configuration(drafted).document:
        assert any(line.startswith(f"{key}: ") for line in commented.splitlines()), key
    assert any(line.startswith("references: 1 mask in derivatives/drawn") for line in found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "expected the folder of a BIDS dataset, found none"),
        (".", "expected a BIDS dataset with folders sub-*, found none; did you mean"),
        ("bids/sub-01", "expected a BIDS dataset with folders sub-*, found none; did you mean"),
        ("bids/participants.tsv", "expected the folder of a BIDS dataset, found a file"),
        ("empty", "expected a BIDS dataset with folders sub-*, found none; a dataset in another form"),
        (
            "other",
            "found UNIT1; for another suffix, say in a configuration what its cord looks like",
        ),
    ],
)
def test_a_wrong_folder_is_named(bids, name, message):
    (bids / "participants.tsv").touch()
    (bids.parent / "empty").mkdir()
    (bids.parent / "other" / "sub-01" / "anat").mkdir(parents=True)
    (bids.parent / "other" / "sub-01" / "anat" / "sub-01_UNIT1.nii.gz").touch()
    with pytest.raises(InputError) as caught:
        draft_configuration(bids.parent / name, name)
    assert message in str(caught.value)


def test_an_old_python_is_one_line():
    import subprocess
    import sys

    code = "import sys; sys.version_info = (3, 9); sys.version = '3.9.1 (x)'; import spineseg"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "spineseg needs Python 3.11 or later, this is 3.9.1\n"
