"""Two runs of one study compared."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from made_study import AFFINE, MADE_BY, study_image, write_index, write_result

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.study.drift import compare_runs, summarise_drift
from spineseg.studyfolder.layout import StudyFolder


def cord(radius):
    i, j, _ = np.indices((40, 40, 10))
    return np.hypot(i - 19.5, j - 19.5) < radius


def write_run(path, masks, affine=AFFINE, maker="", **made_by):
    """`masks`: subject to mask, None for a failed image."""
    folder = StudyFolder(path)
    images = {subject: study_image(subject) for subject in masks}
    write_index(folder, list(images.values()))
    for subject, mask in masks.items():
        made = replace(MADE_BY, **made_by)
        write_result(folder, images[subject], "deepseg", mask, affine=affine, made_by=made, maker=maker)
    return path


def test_same_run(tmp_path):
    a, b = (write_run(tmp_path / n, {"01": cord(8), "02": cord(9)}) for n in "ab")
    summary = summarise_drift(compare_runs(a, b))["deepseg"]
    assert (summary["n_images"], summary["n_identical"], summary["dice_min"]) == (2, 2, 1)
    assert summary["csa_difference_mm2"]["bias"] == 0
    assert summary["changed"] == []


def test_larger_masks_are_found_with_their_cause(tmp_path, capsys):
    a = write_run(tmp_path / "a", {"01": cord(8), "02": cord(9), "03": None, "04": cord(8)})
    b = write_run(
        tmp_path / "b", {"01": cord(8.8), "02": cord(9.9), "03": cord(8), "05": cord(8)}, version="2", code="d" * 64
    )
    out = tmp_path / "drift.tsv"
    assert main(["drift", str(a), str(b), "-o", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)["deepseg"]
    assert summary["csa_difference_pct"]["bias"] == pytest.approx(21, abs=3)
    assert (summary["n_images"], summary["n_only_a"], summary["n_only_b"], summary["n_status_changed"]) == (3, 1, 1, 1)
    assert summary["changed"] == ["code cccccccccccc (version 0.1.0), now dddddddddddd (version 2)"]
    with out.open() as stream:
        rows = {row["subject"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert float(rows["01"]["csa_a_mm2"]) == pytest.approx(np.pi * 16, rel=0.05)
    assert "no mask" in rows["03"]["message"]
    assert rows["01"]["identical"] == "false"
    assert main(["drift", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "changed between the runs: code cccccccccccc (version 0.1.0), now dddddddddddd (version 2)" in printed
    assert "area, %: bias +" in printed
    assert "limits of agreement" in printed
    assert "sub-03_T2w: failed, now ok; no mask: " in printed
    assert main(["drift", str(a), str(b), "-methods", "propseg"]) == 2
    assert "methods with results in both runs (deepseg), found propseg" in capsys.readouterr().err


def test_a_change_is_named_with_both_values(tmp_path, capsys):
    masks = {"01": cord(8), "02": cord(9)}
    a = write_run(tmp_path / "a", masks, parameters={"thr": 0.5, "flips": False}, weights={"net.safetensors": "1" * 64})
    b = write_run(tmp_path / "b", masks, parameters={"thr": 0.4, "flips": False}, weights={"net.safetensors": "2" * 64})
    assert main(["drift", str(a), str(b)]) == 0
    text = "thr 0.5, now 0.4; weights net.safetensors 111111111111, now 222222222222"
    assert f"changed between the runs: {text}" in capsys.readouterr().out


def test_another_version_of_a_program_is_a_change_and_of_spineseg_alone_is_not(tmp_path):
    masks = {"01": cord(8)}
    a = write_run(tmp_path / "a", masks, maker="6.4")
    b = write_run(tmp_path / "b", masks, maker="6.5", version="9", libraries={"numpy": "9"})
    assert summarise_drift(compare_runs(a, b))["deepseg"]["changed"] == ["version 6.4, now 6.5"]


def test_failed_in_both_runs_is_not_a_difference(tmp_path):
    a, b = (write_run(tmp_path / n, {"01": cord(8), "02": None}) for n in "ab")
    summary = summarise_drift(compare_runs(a, b))["deepseg"]
    assert (summary["n_images"], summary["n_identical"], summary["images"]) == (2, 2, [])


def test_another_grid_is_reported(tmp_path):
    a = write_run(tmp_path / "a", {"01": cord(8), "02": cord(8)})
    b = write_run(tmp_path / "b", {"01": cord(8), "02": cord(8)}, affine=np.diag([-0.5, 0.5, 3.0, 1.0]))
    assert [row["message"] for row in compare_runs(a, b)] == ["the two masks lie on different grids"] * 2


def test_nothing_in_common(tmp_path):
    a, b = write_run(tmp_path / "a", {"01": cord(8)}), write_run(tmp_path / "b", {"02": cord(8)})
    with pytest.raises(InputError, match="found none"):
        compare_runs(a, b)
    with pytest.raises(InputError, match="c: expected a folder of results, found none"):
        compare_runs(a, tmp_path / "c")
