"""The jobs that snakemake plans: stages, chunk sizes, sessions; mistakes stop it before the first job."""

import subprocess
from pathlib import Path

import pytest
from run_workflow import Study, chunk_option, clean_environment, count_jobs

SUBJECTS = [f"{n:02d}" for n in range(1, 7)]


def make_names(root: Path, sessions: tuple[str, ...]) -> str:
    """Write empty files: the index reads names only. Three images per subject and session."""
    for subject in SUBJECTS:
        for session in sessions:
            stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
            folder = root / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
            folder.mkdir(parents=True)
            for suffix in ("T1w", "run-1_T2w", "run-2_T2w"):
                (folder / f"{stem}_{suffix}.nii.gz").touch()
    return str(root)


@pytest.mark.parametrize("chunk_size", [1, 25])
@pytest.mark.parametrize("sessions", [("",), ("1", "2")])
def test_jobs_of_each_stage(tmp_path, make_study, sessions, chunk_size):
    study: Study = make_study(bids_dir=make_names(tmp_path / "bids", sessions), pilot={"subjects": ["01", "02"]})
    rows = study.index(chunk_size)
    n_images, n_pilot = 18 * len(sessions), 6 * len(sessions)
    assert [row["included"] for row in rows] == ["true"] * n_images
    chunks = {"pilot": -(-n_pilot // chunk_size), "rest": -(-(n_images - n_pilot) // chunk_size)}
    every = sum(chunks.values())
    options = chunk_option(chunk_size)
    assert study.plan(options=options) == {
        "segment_chunk": 2 * every,
        "measure_chunk": every,
        "draw_chunk": every,
        "gather_tables": 1,
        "gather_pilot": 1,
        "decide": 1,
        "keep_masks": 1,
        "tabulate_levels": 1,
        "tabulate_method_levels": 1,
        "index_qc": 1,
        "write_report": 1,
        "all": 1,
    }
    pilot = study.plan("pilot", options=options)
    assert pilot["segment_chunk"] == 2 * chunks["pilot"]
    assert pilot["gather_pilot"] == pilot["decide"] == 1
    assert pilot["draw_chunk"] == chunks["pilot"]
    assert pilot["index_pilot_qc"] == pilot["write_pilot_report"] == 1
    # no mask of a study is planned before it has been checked
    started = study.plan("study", options=options)
    assert started["check_study"] == 1
    assert not {"segment_chunk", "gather_pilot", "decide", "lock_study"} & set(started)


def test_another_chunk_size_changes_no_chunk(tmp_path, make_study):
    study: Study = make_study(bids_dir=make_names(tmp_path / "bids", ("",)))
    study.index(7)
    before = study.chunks()
    study.index(3)
    assert study.chunks() == before
    study.index(25)
    assert study.chunks() == before


def test_added_images_are_noticed_and_change_no_other_chunk(tmp_path, make_study):
    study = make_study(bids_dir=make_names(tmp_path / "bids", ("",)), pilot={"subjects": {"n": 2}})
    study.index(4)
    before = study.chunks()
    assert "index_images" not in study.plan(options=chunk_option(4))
    for subject in ("00", "03b"):
        folder = tmp_path / "bids" / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{subject}_T2w.nii.gz").touch()
    assert study.plan(options=chunk_option(4))["index_images"] == 1
    study.index(4)
    after = study.chunks()
    assert {image: after[image] for image in before} == before
    assert len(after) == len(before) + 2
    assert "index_images" not in study.plan(options=chunk_option(4))


def test_a_removed_image_is_noticed(tmp_path, make_study):
    study = make_study(bids_dir=make_names(tmp_path / "bids", ("",)))
    study.index()
    (tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    study.plan()
    assert len(study.index()) == 17


def test_both_snakefiles_plan_the_same(tmp_path, make_study):
    study = make_study(bids_dir=make_names(tmp_path / "bids", ("",)))
    study.index()
    command = study.command(options=("--dry-run", "--quiet", "rules"))
    other = [part.replace("/Snakefile", "/workflow/Snakefile") for part in command]
    done = subprocess.run(other, cwd=study.folder, env=clean_environment(), capture_output=True, text=True, check=False)
    counts = count_jobs(done.stdout + done.stderr)
    counts["all"] = counts.pop("everything")
    assert counts == study.plan()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metods": ["propseg"]}, "config key 'metods': no such key; did you mean 'methods'?"),
        ({"bids_dir": None, "contrasts": ["T9w"]}, "config key 'contrasts': unknown contrast 'T9w'"),
        ({"bids_dir": "nowhere"}, "config key 'bids_dir': expected a folder, found none at nowhere"),
        ({"bids_dir": None, "images": "images.tsv"}, "images.tsv, lines 2 and 3: two lines for one image"),
    ],
)
def test_mistakes_stop_before_the_first_job(tmp_path, make_study, keys, message):
    study = make_study(**({"bids_dir": make_names(tmp_path / "bids", ("",))} | keys))
    image = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    study.folder.mkdir()
    row = f"01\tt1\t{image}\n"
    (study.folder / "images.tsv").write_text("subject\tcontrast\tpath\n" + row + row)
    done = study.call()
    assert done.returncode == 2
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Using workflow specific profile")]
    assert len(lines) == 1, done.stdout
    named = "" if "images" in keys else "config.yaml: "
    assert lines[0].startswith(f"{named}{message}")
    assert not study.results.exists()
