"""Vertebral levels: SCT's values on a real mask, names, files, and one line for each mistake.

``python tests/test_levels.py`` prints the differences from SCT that docs/measures.md reports.
"""

from __future__ import annotations

import csv
import tempfile
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.levels.names import level_name, parse_request
from spineseg.levels.rows import measure_rows
from spineseg.metrics.shape import compute_shape
from spineseg.volume import load_mask

DATA = Path(__file__).parents[2] / "shared" / "data" / "levels"
needs_levels = pytest.mark.skipif(not DATA.is_dir(), reason="mask and levels are not at ../shared/data/levels")


def run_csv(tmp_path, *flags):
    """Rows of the CSV that ``spineseg csa`` writes."""
    out = tmp_path / "csa.csv"
    assert main(["csa", *map(str, flags), "-o", str(out)]) == 0
    with out.open(newline="") as stream:
        return list(csv.DictReader(stream))


SCT_COLUMNS = (
    *("area_mm2", "diameter_ap_mm", "diameter_rl_mm", "eccentricity", "length_mm"),
    *("angle_ap_deg", "angle_rl_deg"),
)


def row_like(expected, folder):
    """The row of spineseg for the call and slices of a row of SCT."""
    words = expected["call"].split(" (")[0].split()
    flags = [DATA / word if word.endswith(".nii.gz") else word for word in words]
    rows = {row["slices"]: row for row in run_csv(folder, "-i", DATA / "cord.nii.gz", *flags)}
    return rows[expected["slices"]]


def sct_rows():
    if not DATA.is_dir():
        return []
    with (DATA / "sct_values.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@needs_levels
@pytest.mark.parametrize("expected", sct_rows(), ids=lambda row: f"{row['call'][:9]} {row['level']}")
def test_values_are_those_of_sct(expected, tmp_path):
    row = row_like(expected, tmp_path)
    for name in SCT_COLUMNS:
        got, sct = float(row[name.replace("area", "csa")]), float(expected[name])
        assert got == pytest.approx(sct, **({"abs": 0.5} if name.endswith("deg") else {"rel": 0.01})), name
    assert float(row["solidity_sct"]) == pytest.approx(float(expected["solidity"]), rel=0.01)
    if (
        "-discfile" in expected["call"] and expected["level"] == "3"
    ):  # disc 4 has no label: SCT takes level 4 for level 3
        assert (row["vert_level"], row["level"]) == ("3:4", "C3-C4")
        assert "disc 4 is missing" in row["note"]
    else:
        assert row["vert_level"] == expected["level"]


@needs_levels
def test_template_from_discs_and_from_levels(tmp_path):
    template = str(DATA.parent / "template" / "PAM50_small_")
    flags = ["-i", f"{template}cord.nii.gz", "-vert", "C2:T11", "-perlevel", "1"]
    discs = run_csv(tmp_path, *flags, "-discfile", f"{template}label_disc.nii.gz")
    levels = run_csv(tmp_path, *flags, "-vertfile", f"{template}levels.nii.gz")
    assert [row["vert_level"] for row in discs] == [str(level) for level in range(18, 1, -1)]
    for a, b in zip(discs, levels, strict=True):
        assert a["level"] == b["level"]
        ends = [[int(end) for end in row["slices"].split(":")] for row in (a, b)]
        np.testing.assert_allclose(*ends, atol=1)  # the small copy rounds discs and levels separately
        assert float(a["csa_mm2"]) == pytest.approx(float(b["csa_mm2"]), rel=0.02)


class TestNames:
    @pytest.mark.parametrize(
        ("text", "ranges", "discs"),
        [
            ("2:4", ((2, 4),), ()),
            ("C2:C4", ((2, 4),), ()),
            ("c2-c4", ((2, 4),), ()),
            ("2,3", ((2, 2), (3, 3)), ()),
            ("C2", ((2, 2),), ()),
            ("T1", ((8, 8),), ()),
            ("L1, S1", ((20, 20), (25, 25)), ()),
            ("C7:T2", ((7, 9),), ()),
            ("C2/C3", (), (3,)),
            ("C7/T1,T12/L1", (), (8, 20)),
        ],
    )
    def test_level_names_are_parsed(self, text, ranges, discs):
        request = parse_request(text)
        assert (request.ranges, request.discs) == (ranges, discs)

    @pytest.mark.parametrize(
        "text", ["", "C8", "T13", "4:2", "C2/C4", "C2:C3:C4", "2-", "0", "30", "x", "C2//C3", "-3"]
    )
    def test_bad_level_names_are_refused(self, text):
        with pytest.raises(InputError, match="levels"):
            parse_request(text)

    def test_every_level_has_its_name(self):
        names = [level_name(value) for value in range(1, 30)]
        assert names[6:8] == ["C7", "T1"]
        assert names[18:20] == ["T12", "L1"]
        assert len(set(names)) == 29
        assert [parse_request(name).ranges[0][0] for name in names] == list(range(1, 30))


SHAPE, ZOOMS = (20, 20, 60), (1.0, 1.0, 2.0)


@pytest.fixture
def files(tmp_path):
    """A cord of squares, C2 to C5 by discs and by levels; `write` adds label files."""
    affine = np.diag([-ZOOMS[0], ZOOMS[1], ZOOMS[2], 1.0])
    cord = np.zeros(SHAPE, np.uint8)
    cord[6:14, 7:13, 4:56] = 1
    levels = np.zeros(SHAPE, np.uint8)
    for level, (low, high) in {5: (6, 16), 4: (17, 28), 3: (29, 40), 2: (41, 50)}.items():
        levels[6:14, 7:13, low : high + 1] = level

    def write(name, marks, *, affine=affine, shape=SHAPE, dtype=np.float32):
        data = marks if isinstance(marks, np.ndarray) else np.zeros(shape, dtype)
        if isinstance(marks, dict):
            for value, (i, j, k) in marks.items():
                data[i, j, k] = value
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
        return str(tmp_path / f"{name}.nii.gz")

    paths = {"cord": write("cord", cord), "levels": write("levels", levels)}
    paths["discs"] = write("discs", {3: (10, 17, 40), 4: (10, 17, 28), 5: (10, 17, 16), 6: (10, 17, 5)})
    return paths, write


def refused(capsys, *flags):
    """Run a command that must be refused; return its one line."""
    assert main(["csa", *flags]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    return printed.err


class TestMistakes:
    @pytest.mark.parametrize("flag", ["-discfile", "-vertfile"])
    def test_another_grid(self, files, capsys, flag):
        paths, write = files
        moved = write("moved", {3: (10, 10, 30)}, affine=np.diag([-1.0, 1.0, 2.0, 1.0]) + np.eye(4, k=3) * 5)
        assert "affine" in refused(capsys, "-i", paths["cord"], flag, moved, "-vert", "3")
        small = write("small", {3: (5, 5, 5)}, shape=(10, 20, 60))
        assert "small.nii.gz" in refused(capsys, "-i", paths["cord"], flag, small, "-vert", "3")

    @pytest.mark.parametrize("flag", ["-discfile", "-vertfile", "-pmj"])
    def test_no_label(self, files, capsys, flag):
        paths, write = files
        more = ["-pmj-distance", "40"] if flag == "-pmj" else ["-vert", "3"]
        assert "no label" in refused(capsys, "-i", paths["cord"], flag, write("none", {}), *more)

    def test_labels_that_are_not_discs(self, files, capsys):
        paths, write = files
        marks = write("marks", {49: (10, 10, 50), 50: (10, 10, 52), 60: (10, 10, 6)})
        message = refused(capsys, "-i", paths["cord"], "-discfile", marks, "-vert", "3")
        assert "pontomedullary junction" in message
        assert "conus" in message

    def test_other_labels_beside_discs_are_ignored(self, files, tmp_path):
        paths, write = files
        more = write("more", {3: (10, 17, 40), 4: (10, 17, 28), 49: (10, 10, 55), 50: (10, 10, 52), 60: (10, 10, 30)})
        row = run_csv(tmp_path, "-i", paths["cord"], "-discfile", more, "-vert", "3")[0]
        assert row["slices"] == "29:40"

    def test_one_disc_alone_bounds_no_level(self, files, capsys, tmp_path):
        paths, write = files
        one = write("one", {3: (10, 17, 40)})
        assert "C2/C3" in refused(capsys, "-i", paths["cord"], "-discfile", one, "-vert", "3")
        assert "C2/C3" in refused(capsys, "-i", paths["cord"], "-discfile", one, "-perlevel", "1")
        assert run_csv(tmp_path, "-i", paths["cord"], "-discfile", one, "-vert", "C2/C3")[0]["slices"] == "35:45"

    def test_swapped_discs(self, files, capsys):
        paths, write = files
        swapped = write("swapped", {3: (10, 17, 28), 4: (10, 17, 40), 5: (10, 17, 16)})
        message = refused(capsys, "-i", paths["cord"], "-discfile", swapped, "-vert", "3")
        assert "disc 4" in message
        assert "above" in message

    def test_swapped_levels(self, files, capsys):
        paths, write = files
        upside_down = np.asarray(nib.load(paths["levels"]).dataobj)[:, :, ::-1]
        file = write("upside_down", np.ascontiguousarray(upside_down))
        assert "above" in refused(capsys, "-i", paths["cord"], "-vertfile", file, "-vert", "3")

    @pytest.mark.parametrize("labels", ["discs", "levels"])
    @pytest.mark.parametrize("per", [(), ("-perlevel", "1"), ("-perslice", "1")])
    def test_missing_levels_are_reported_beside_measured_ones(self, files, capsys, labels, per):
        paths, _ = files
        flags = ("-i", str(paths["cord"]), {"discs": "-discfile", "levels": "-vertfile"}[labels], str(paths[labels]))
        tables = []
        last, lacking = {"discs": ("6", "C7-L1"), "levels": ("5", "C6-L1")}[labels]
        for text in ("2:20", f"2:{last}"):
            assert main(["csa", *flags, *per, "-vert", text]) == 0
            out, error = capsys.readouterr()
            assert (f"{lacking}: asked for, but not labelled" in error) == (text == "2:20")
            tables.append([line.rpartition("\t")[0] for line in out.splitlines()])  # except the note
        assert tables[0] == tables[1]

    def test_levels_outside_the_chosen_slices_are_reported(self, files, capsys):
        paths, _ = files
        flags = ("csa", "-i", str(paths["cord"]), "-discfile", str(paths["discs"]), "-vert", "3:5", "-perlevel", "1")
        assert main([*flags]) == 0
        whole = [line.split("\t")[2:4] for line in capsys.readouterr().out.splitlines()[1:]]
        lowest = whole[0][0]
        assert main([*flags, "-z", lowest]) == 0
        out, error = capsys.readouterr()
        assert [line.split("\t")[2:4] for line in out.splitlines()[1:]] == whole[:1]
        assert "C4, C3: none of the slices is among those chosen by -z" in error

    @pytest.mark.parametrize("labels", ["discs", "levels"])
    @pytest.mark.parametrize("text", ["7", "T1", "7:20"])
    def test_level_not_in_the_file(self, files, capsys, labels, text):
        paths, _ = files
        flag = {"discs": "-discfile", "levels": "-vertfile"}[labels]
        message = refused(capsys, "-i", paths["cord"], flag, paths[labels], "-vert", text)
        assert ("T1" if text == "T1" else "C7") in message

    @pytest.mark.parametrize("order", [(2, 4, 3), (2, 3, 2), (3, 2, 4), (4, 3, 2)])
    def test_levels_out_of_order(self, files, capsys, order):
        paths, write = files
        levels = np.zeros(SHAPE, np.uint8)
        for n, level in enumerate(order):
            levels[6:14, 7:13, 40 - 10 * n : 50 - 10 * n] = level
        message = refused(capsys, "-i", paths["cord"], "-vertfile", write("odd", levels), "-perlevel", "1")
        high, low = next((a, b) for a, b in reversed(list(pairwise(order))) if a > b)
        n = max(n for n in range(2) if order[n] > order[n + 1])
        assert f"found C{high} ({high}, slice {40 - 10 * n}) above C{low} ({low}, slice {39 - 10 * n})" in message

    def test_levels_that_run_from_side_to_side(self, files, capsys):
        paths, write = files
        levels = np.zeros(SHAPE, np.uint8)
        for n, level in enumerate((2, 3, 4, 5)):
            levels[6 + 2 * n : 8 + 2 * n, 7:13, 4:56] = level
        message = refused(capsys, "-i", paths["cord"], "-vertfile", write("turned", levels), "-vert", "3")
        assert "one level across each slice" in message

    @pytest.mark.parametrize(("away", "words"), [(1, None), (2, "4.0 mm"), (5, "10.0 mm"), (12, "24.0 mm")])
    @pytest.mark.parametrize("flag", ["-discfile", "-pmj"])
    def test_a_disc_labelled_twice(self, files, capsys, flag, away, words):
        paths, write = files
        labels = np.zeros(SHAPE, np.uint8)
        value = 4 if flag == "-discfile" else 50
        labels[10, 17, 28] = labels[10, 17, 28 + away] = value
        labels[10, 17, 16] = 5
        # stored from the other side, as viewers then count
        file = write("twice", labels[::-1], affine=np.diag([1.0, 1.0, 2.0, 1.0]) - 19 * np.eye(4, k=3) * [0, 0, 0, 1])
        more = ["-vert", "4"] if flag == "-discfile" else ["-pmj-distance", "20"]
        cord = np.asarray(nib.load(paths["cord"]).dataobj)[::-1]
        mask = write("turned", cord, affine=nib.load(file).affine)
        if words is None:
            assert main(["csa", "-i", mask, flag, file, *more]) == 0
            return
        message = refused(capsys, "-i", mask, flag, file, *more)
        assert f"found 2, at the voxels (9, 17, 28), (9, 17, {28 + away}), {words} apart" in message

    def test_level_without_cord(self, files, capsys):
        paths, write = files
        high = write("high", {2: (10, 17, 58), 3: (10, 17, 56), 4: (10, 17, 40)})
        message = refused(capsys, "-i", paths["cord"], "-discfile", high, "-vert", "2")
        assert "level C2: labelled, but found no cord there" in message
        assert "-z" in refused(capsys, "-i", paths["cord"], "-discfile", paths["discs"], "-vert", "3", "-z", "5:9")

    @pytest.mark.parametrize("flags", [("-vert", "2:3"), ("-perlevel", "1"), ("-vert", "C2/C3")])
    def test_levels_without_a_file(self, files, capsys, flags):
        assert "-discfile" in refused(capsys, "-i", files[0]["cord"], *flags)

    def test_wrong_values(self, files, capsys):
        paths, write = files
        for value, part in ((99, "99"), (3.4, "whole")):
            file = write("wrong", {value: (10, 10, 30), 4: (10, 10, 20)})
            for flag in ("-discfile", "-vertfile"):
                assert part in refused(capsys, "-i", paths["cord"], flag, file, "-vert", "3")

    def test_invalid_labels_are_refused(self, files, capsys, tmp_path):
        paths, write = files
        series = np.zeros((*SHAPE, 3), np.float32)
        for flag in ("-discfile", "-vertfile"):
            for value, part in ((-3, "-3"), (np.inf, "inf")):
                file = write("odd", {value: (10, 10, 30), 4: (10, 10, 20)})
                assert part in refused(capsys, "-i", paths["cord"], flag, file, "-vert", "3")
            series[10, 10, 30] = 3
            assert "3 dimensions" in refused(capsys, "-i", paths["cord"], flag, write("series", series), "-vert", "3")
        one_volume = np.asarray(nib.load(paths["discs"]).dataobj, np.float64)[..., None]
        row = run_csv(tmp_path, "-i", paths["cord"], "-discfile", write("one", one_volume), "-vert", "3")[0]
        assert row["slices"] == "29:40"

    def test_a_disc_far_from_the_cord(self, files, capsys):
        _, write = files
        wide = np.zeros((20, 120, 60), np.uint8)
        wide[6:14, 7:13, 4:56] = 1
        discs = write("far", {3: (10, 90, 40), 4: (10, 17, 28)}, shape=wide.shape)
        message = refused(capsys, "-i", write("wide", wide), "-discfile", discs, "-vert", "3")
        assert "disc 3 (C2/C3) within 60 mm of the cord, found it 81 mm away" in message

    def test_one_kind_of_file_for_the_other(self, files, capsys):
        paths, write = files
        assert "levels" in refused(capsys, "-i", paths["cord"], "-discfile", paths["levels"], "-vert", "3")
        for file in (paths["discs"], write("on_cord", {3: (10, 10, 40), 4: (10, 10, 28)})):
            assert "-discfile" in refused(capsys, "-i", paths["cord"], "-vertfile", file, "-vert", "3")

    def test_flags_that_do_not_go_together(self, files, capsys):
        paths, write = files
        cord, discs = ["-i", paths["cord"]], ["-discfile", paths["discs"]]
        assert "one of them" in refused(capsys, *cord, *discs, "-vertfile", paths["levels"])
        assert "-pmj" in refused(capsys, *cord, "-pmj-distance", "64")
        assert "-pmj" in refused(capsys, *cord, "-pmj", write("pmj", {50: (10, 10, 58)}))
        assert main(["csa", *cord, "-pmj", write("pmj", {50: (10, 10, 58)}), "-perslice", "1"]) == 0
        heading, lowest, *_ = (line.split("\t") for line in capsys.readouterr().out.splitlines())
        assert float(lowest[heading.index("distance_pmj_mm")]) == pytest.approx((58 - 4) * ZOOMS[2], abs=0.2)
        assert "-append" in refused(capsys, *cord, "-append", "1")
        assert "-pmj-extent" in refused(capsys, *cord, "-pmj-extent", "30")
        none = refused(capsys, *cord, "-vertfile", paths["levels"], "-vert", "T9/T10")
        assert "expected levels that meet at T9/T10" in none
        assert "spreadsheets open .csv" in refused(capsys, *cord, "-o", "x.xlsx")
        assert "per mask" in refused(capsys, *cord, *cord[1:], "-vertfile", *[paths["levels"]] * 3, "-vert", "3")

    def test_window_beyond_the_cord(self, files, capsys):
        paths, write = files
        pmj = write("pmj", {50: (10, 10, 58)})
        message = refused(capsys, "-i", paths["cord"], "-pmj", pmj, "-pmj-distance", "110")
        assert "100 to 120 mm" in message
        beyond = refused(capsys, "-i", paths["cord"], "-pmj", pmj, "-pmj-distance", "110", "-pmj-extent", "60")
        assert "with a gap" not in beyond
        two = write("two", {1: (10, 10, 58), 2: (10, 10, 50)})
        assert "found the values 1, 2" in refused(capsys, "-i", paths["cord"], "-pmj", two, "-pmj-distance", "40")
        for value in (3, 49, 60):  # a disc, the groove, the conus
            other = write("other", {value: (10, 10, 58)})
            message = refused(capsys, "-i", paths["cord"], "-pmj", other, "-pmj-distance", "40")
            assert f"found the values {value}" in message
        alone = write("alone", {1: (10, 10, 58)})
        assert main(["csa", "-i", paths["cord"], "-pmj", alone, "-pmj-distance", "40"]) == 0

    def test_the_mask_itself_as_levels(self, files, capsys):
        paths, _ = files
        message = refused(capsys, "-i", paths["cord"], "-vertfile", paths["cord"], "-perlevel", "1")
        assert "is it a mask of the cord?" in message

    def test_empty_mask(self, files, capsys):
        paths, write = files
        empty = write("empty", {}, dtype=np.uint8)
        assert "empty mask" in refused(capsys, "-i", empty, "-discfile", paths["discs"], "-vert", "3")
        assert main(["csa", "-i", empty]) == 0
        printed = capsys.readouterr()
        assert printed.out.endswith("the mask is empty\n")
        assert "n/a" in printed.out
        assert printed.err == f"spineseg csa: warning: {empty}: the mask is empty\n"

    @pytest.mark.parametrize("rows", [6, 2])
    def test_a_speck_apart_from_the_cord_is_reported(self, files, tmp_path, rows):
        paths, write = files
        cord = np.asarray(nib.load(paths["cord"]).dataobj).copy()
        cord[:, :, 4:28] = 0
        cord[6 : 6 + rows, 7:13, 10:12] = 1  # six rows are more than a speck
        mask = write("speck", cord)
        row = run_csv(tmp_path, "-i", mask, "-discfile", paths["discs"], "-vert", "3:5")[0]
        assert ("slices 10:11 hold 48 mm³ of the mask apart from the rest" in row["note"]) == (rows == 2)
        row = run_csv(tmp_path, "-i", mask, "-discfile", paths["discs"], "-vert", "3")[0]
        assert "apart" not in row["note"]

    def test_slices_without_cord(self, files, tmp_path):
        row = run_csv(tmp_path, "-i", files[0]["cord"], "-z", "0:2")[0]
        assert (row["csa_mm2"], row["n_slices"], row["note"]) == ("", "0", "no cord in the chosen slices")

    def test_a_header_without_orientation(self, files, capsys):
        paths, _ = files
        image = nib.load(paths["cord"])
        image.header["sform_code"] = image.header["qform_code"] = 0
        image = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
        nib.save(image, paths["cord"])
        assert main(["csa", "-i", paths["cord"]]) == 0
        assert "warning: cord.nii.gz: the header has no orientation" in capsys.readouterr().err


class TestShortStacks:
    """Angles of a few slices are noise; the note bounds it."""

    def row(self, files, tmp_path, k, *flags):
        paths, write = files
        data = np.asarray(nib.load(paths["cord"]).dataobj).copy()
        data[:, :, : k[0]] = data[:, :, k[1] + 1 :] = 0
        return run_csv(tmp_path, "-i", write("short", data), *flags)[0]

    @pytest.mark.parametrize(("last", "words"), [(11, "2 slices over 2 mm and may be off by 16"), (14, "off by 8")])
    def test_two_to_five_slices(self, files, tmp_path, last, words):
        assert words in self.row(files, tmp_path, (10, last))["note"]
        assert self.row(files, tmp_path, (10, last), "-angle-corr", "0")["note"] == ""

    def test_one_slice_and_six(self, files, tmp_path):
        assert self.row(files, tmp_path, (10, 10))["note"].startswith("one slice: its angle is not known")
        assert self.row(files, tmp_path, (10, 15))["note"] == ""
        assert run_csv(tmp_path, "-i", files[0]["cord"], "-z", "10:11")[0]["note"] == ""  # the line is the whole mask's

    @needs_levels
    def test_the_reported_error_bounds_the_true_one_on_a_drawn_mask(self):
        mask, _ = load_mask(DATA / "cord.nii.gz")
        whole = compute_shape(mask.data, mask.zooms)
        for n in (2, 3, 4, 5):
            errors = []
            for k in range(5, 45, n):
                data = np.zeros_like(mask.data)
                data[:, :, k : k + n] = mask.data[:, :, k : k + n]
                (row,) = measure_rows(data, mask.zooms)
                told = float(row["note"].split()[-2])
                for angle in ("angle_ap_deg", "angle_rl_deg"):
                    errors.append(abs(row[angle] - getattr(whole, angle)[k : k + n].mean()) / told)
            assert np.mean(np.array(errors) < 1) >= 0.95
            assert max(errors) > 0.2


class TestLevels:
    @pytest.mark.parametrize(("flag", "labels"), [("-discfile", "discs"), ("-vertfile", "levels")])
    def test_slices(self, files, tmp_path, flag, labels):
        paths, _ = files
        rows = run_csv(tmp_path, "-i", paths["cord"], flag, paths[labels], "-vert", "3:5", "-perlevel", "1")
        assert [(row["level"], row["slices"]) for row in rows] == [("C5", "6:16"), ("C4", "17:28"), ("C3", "29:40")]

    def test_missing_discs_are_reported(self, files, tmp_path, capsys):
        paths, write = files
        few = write("few", {3: (10, 17, 40), 6: (10, 17, 5)})
        rows = run_csv(tmp_path, "-i", paths["cord"], "-discfile", few, "-vert", "4")
        assert [(row["level"], row["vert_level"], row["slices"]) for row in rows] == [("C3-C5", "3:5", "6:40")]
        assert rows[0]["note"] == "C3-C5: discs 4, 5 are missing"
        assert "discs 4, 5 are missing" in capsys.readouterr().err

    def test_slices_of_each_level_come_before_its_mean(self, files, tmp_path):
        paths, _ = files
        rows = run_csv(tmp_path, "-i", paths["cord"], "-discfile", paths["discs"], "-vert", "3:4", "-perlevel", "1",
                       "-perslice", "1")  # fmt: skip
        means = run_csv(tmp_path, "-i", paths["cord"], "-discfile", paths["discs"], "-vert", "3:4", "-perlevel", "1")
        assert [row for row in rows if row["slice"] == "mean"] == means
        for mean in means:
            own = [row for row in rows if row["level"] == mean["level"] and row["slice"].isdigit()]
            first, last = map(int, mean["slices"].split(":"))
            assert [int(row["slice"]) for row in own] == list(range(first, last + 1))
            assert rows[rows.index(mean) + 1]["slice"] == "sd"

    def test_open_ends_are_reported(self, files, tmp_path):
        paths, _ = files
        rows = run_csv(tmp_path, "-i", paths["cord"], "-discfile", paths["discs"], "-perlevel", "1")
        assert [row["level"] for row in rows] == ["C6", "C5", "C4", "C3", "C2"]
        assert "no disc below" in rows[0]["note"]
        assert "no disc above" in rows[-1]["note"]
        assert {row["note"] for row in rows[1:-1]} == {""}

    def test_warnings_are_printed_once_unless_silenced(self, files, tmp_path, capsys):
        paths, _ = files
        flags = ["csa", "-i", paths["cord"], "-discfile", paths["discs"], "-vert", "5:6", "-perlevel", "1", "-r", "0"]
        assert main(flags) == 0
        told = "spineseg csa: warning: {}: C6: no disc below, down to the end of the mask\n"
        assert capsys.readouterr().err == told.format(paths["cord"])
        assert main([*flags, "-v", "0", "-o", str(tmp_path / "csa.tsv")]) == 0
        assert capsys.readouterr() == ("", "")

    def test_c1_and_its_top(self, files, tmp_path):
        paths, write = files
        top = write("top", {1: (10, 17, 50), 2: (10, 17, 46), 3: (10, 17, 40)})
        rows = run_csv(tmp_path, "-i", paths["cord"], "-discfile", top, "-vert", "1:2", "-perlevel", "1")
        assert [(row["level"], row["slices"]) for row in rows] == [("C2", "41:46"), ("C1", "47:50")]

    def test_slices_show_their_level(self, files, tmp_path):
        paths, _ = files
        rows = run_csv(tmp_path, "-i", paths["cord"], "-vertfile", paths["levels"], "-perslice", "1")
        assert len(rows) == 52 + 2
        assert (rows[0]["slice"], rows[0]["level"]) == ("4", "")
        assert (rows[10]["slice"], rows[10]["level"], rows[10]["vert_level"]) == ("14", "C5", "5")
        assert [row["slice"] for row in rows[-2:]] == ["mean", "sd"]

    def test_levels_and_slices_must_both_hold(self, files, tmp_path):
        paths, _ = files
        row = run_csv(tmp_path, "-i", paths["cord"], "-discfile", paths["discs"], "-vert", "3", "-z", "35:55")[0]
        assert row["slices"] == "35:40"

    def test_one_file_for_two_masks_or_one_for_each(self, files, tmp_path):
        paths, _ = files
        for count in (1, 2):
            labels = [paths["levels"]] * count
            rows = run_csv(tmp_path, "-i", paths["cord"], paths["cord"], "-vertfile", *labels, "-vert", "3")
            assert [row["slices"] for row in rows] == ["29:40", "29:40"]


class TestCoverage:
    """The borders of a level give its length: discs, or the neighbouring level of a labelled cord."""

    @staticmethod
    def of(tmp_path, paths, *flags, cord="cord"):
        rows = run_csv(tmp_path, "-i", paths[cord], "-perlevel", "1", *flags)
        return {row["level"]: float(row["level_coverage"] or "nan") for row in rows}, {
            row["level"]: row["note"] for row in rows
        }

    @pytest.fixture
    def cut(self, files):
        """Cut the mask and its levels within C5 and within C2, so that the length of these is not known."""
        paths, write = files
        for name in ("cord", "levels"):
            data = np.asarray(nib.load(paths[name]).dataobj).copy()
            data[:, :, :12] = data[:, :, 47:] = 0
            paths[f"{name}_cut"] = write(f"{name}_cut", data)
        return paths

    @pytest.mark.parametrize("flags", [(), ("-z", "0:59")])
    def test_outer_levels_of_labels_that_end_with_the_mask_are_not_known(self, cut, tmp_path, flags):
        coverage, note = self.of(tmp_path, cut, "-vertfile", cut["levels_cut"], *flags, cord="cord_cut")
        np.testing.assert_equal(coverage, {"C5": np.nan, "C4": 1.0, "C3": 1.0, "C2": np.nan})
        assert note["C5"] == "C5: C6 is not labelled below it, so its lower border is not known"
        assert note["C2"] == "C2: C1 is not labelled above it, so its upper border is not known"

    def test_labels_beyond_the_mask_show_what_it_lacks(self, cut, tmp_path):
        paths = cut
        coverage, _ = self.of(tmp_path, paths, "-vertfile", paths["levels"], cord="cord_cut")
        np.testing.assert_equal(coverage, {"C5": np.nan, "C4": 1.0, "C3": 1.0, "C2": np.nan})
        data = np.asarray(nib.load(paths["cord"]).dataobj).copy()
        data[:, :, 35:] = 0
        data[:, :, 20:23] = 0
        nib.save(nib.Nifti1Image(data, nib.load(paths["cord"]).affine), paths["cord_cut"])
        coverage, _ = self.of(tmp_path, paths, "-vertfile", paths["levels"], cord="cord_cut")
        assert coverage["C4"] == pytest.approx(9 / 12)
        assert coverage["C3"] == pytest.approx(6 / 12)

    def test_unlabelled_cord_beside_a_level_is_not_a_border(self, files, tmp_path):
        coverage, note = self.of(tmp_path, files[0], "-vertfile", files[0]["levels"])  # the cord continues both ways
        np.testing.assert_equal(coverage, {"C5": np.nan, "C4": 1.0, "C3": 1.0, "C2": np.nan})
        assert (note["C4"], note["C3"]) == ("", "")

    @pytest.mark.parametrize(("flag", "labels"), [("-discfile", "discs"), ("-vertfile", "levels")])
    def test_excluded_slices_do_not_count_as_covered(self, files, tmp_path, flag, labels):
        paths, _ = files
        coverage, _ = self.of(tmp_path, paths, flag, paths[labels], "-vert", "3:4", "-z", "20:40")
        assert coverage["C4"] == pytest.approx(9 / 12)
        assert coverage["C3"] == 1.0
        coverage, _ = self.of(tmp_path, paths, flag, paths[labels], "-vert", "3:4", "-z", "17:40", "-perlevel", "0")
        assert coverage == {"C3-C4": 1.0}
        coverage, _ = self.of(tmp_path, paths, flag, paths[labels], "-vert", "3:4", "-z", "29:40", "-perlevel", "0")
        assert coverage == {"C3-C4": pytest.approx(0.5)}

    def test_discs_outside_the_mask_bound_a_level_too(self, files, tmp_path):
        paths, write = files
        discs = write("wide", {6: (10, 17, 15), 7: (10, 17, 1), 2: (10, 17, 50), 1: (10, 17, 59)})
        coverage, _ = self.of(tmp_path, paths, "-discfile", discs)
        assert coverage["C6"] == pytest.approx((15 - 3.5) / 14)
        assert coverage["C1"] == pytest.approx((55.5 - 50) / 9)

    def test_the_top_of_c1_is_known_if_the_cord_continues_above(self, files, tmp_path):
        paths, write = files
        levels = np.zeros(SHAPE, np.uint8)
        levels[6:14, 7:13, 30:40], levels[6:14, 7:13, 40:46] = 2, 1
        coverage, _ = self.of(tmp_path, paths, "-vertfile", write("top", levels))
        np.testing.assert_equal(coverage, {"C2": np.nan, "C1": 1.0})
        levels[6:14, 7:13, 46:56] = 1
        coverage, note = self.of(tmp_path, paths, "-vertfile", write("top", levels))
        np.testing.assert_equal(coverage, {"C2": np.nan, "C1": np.nan})
        assert note["C1"] == "C1: the mask does not continue above it, so its upper border is not known"

    def test_a_level_that_nobody_labelled_bounds_no_other(self, files, tmp_path):
        paths, write = files
        levels = np.zeros(SHAPE, np.uint8)
        for n, level in enumerate((2, 3, 5, 6, 7)):
            levels[6:14, 7:13, 46 - 8 * n : 54 - 8 * n] = level
        coverage, note = self.of(tmp_path, paths, "-vertfile", write("jump", levels))
        np.testing.assert_equal(coverage, {"C7": np.nan, "C6": 1.0, "C5": np.nan, "C3": np.nan, "C2": np.nan})
        assert "C4 is not labelled" in note["C5"]
        assert "C4 is not labelled" in note["C3"]


class TestFiles:
    def test_append(self, files, tmp_path, capsys):
        paths, _ = files
        for name in ("all.csv", "new/all.tsv"):  # folders are made, as without -append
            for _ in range(2):
                assert main(["csa", "-i", paths["cord"], "-o", str(tmp_path / name), "-append", "1"]) == 0
            lines = (tmp_path / name).read_text().splitlines()
            assert len(lines) == 3
            assert lines[1] == lines[2]
            assert lines[0].startswith("file," if name.endswith("csv") else "file\t")
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        capsys.readouterr()
        refused(capsys, "-i", paths["cord"], "-o", str(tmp_path / "other.csv"), "-append", "1")
        assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"

    def test_centerline_gives_the_angles(self, files, tmp_path, capsys):
        paths, write = files
        line = np.zeros(SHAPE, np.uint8)
        for k in range(2, 58):
            line[10, round(3 + k / 4), k] = 1  # 1 mm for 8 mm of height
        file = write("line", line)
        for correction in ([], ["-exact"]):
            row = run_csv(tmp_path, "-i", paths["cord"], "-centerline", file, *correction)[0]
            assert float(row["angle_rl_deg"]) == pytest.approx(np.degrees(np.arctan(1 / 8)), abs=0.3)
            assert float(row["csa_mm2"]) == pytest.approx(48 * np.cos(np.arctan(1 / 8)), rel=1e-3)
        line[:, :, :20] = 0
        capsys.readouterr()
        message = refused(capsys, "-i", paths["cord"], "-centerline", write("short", line))
        assert "4:19" in message


if __name__ == "__main__":
    for row in sct_rows():
        with tempfile.TemporaryDirectory() as folder:
            ours = row_like(row, Path(folder))
        print(row["call"][:9], row["slices"], end=":")
        for name in (*SCT_COLUMNS, "area_sd_mm2", "diameter_ap_mm", "orientation_deg", "solidity"):
            ours_name = name.replace("area", "csa").replace("solidity", "solidity_sct")
            got, sct = float(ours[ours_name]), float(row[name])
            print(
                f" {name} {got - sct:+.2f}" if name.endswith("deg") else f" {name} {100 * (got / sct - 1):+.2f} %",
                end="",
            )
        print()
