"""The wheel contains the workflow and runs it; the source distribution contains everything that the tests need."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import unpack

ROOT = Path(__file__).parents[1]

NOT_SHIPPED = ("benchmarks/folds/",)
"""Tracked files that the source distribution leaves out: 10 MB for a benchmark."""


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Names of the repository's files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory) -> Path:
    """A folder with the source distribution of the tracked files, and the wheel that is built from it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("built")
    for name in tracked:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    build(folder / "source", "sdist", folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        unpack(archive, folder / "unpacked")
    build(next((folder / "unpacked").iterdir()), "wheel", folder)
    return folder


def build(source: Path, kind: str, target: Path) -> None:
    code = f"from setuptools.build_meta import build_{kind}; import sys; build_{kind}(sys.argv[1])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_source_distribution_has_what_the_workflow_and_its_tests_need(built, tracked):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert [name for name in tracked if name not in names and not name.startswith(NOT_SHIPPED)] == []


def test_the_wheel_has_the_workflow_and_the_weights(built, tracked):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("spineseg/")}
    workflow = [
        f"spineseg/workflow/{name}"
        for name in tracked
        if name in ("Snakefile", "constraints.txt") or name.split("/")[0] in ("rules", "envs", "profiles", "config")
    ]
    package = [name for name in tracked if name.startswith("spineseg/")]
    assert sorted(names) == sorted([*workflow, *package])


def test_an_installed_wheel_plans_a_study_and_packs_the_same_code_for_conda(built, tmp_path):
    """In an empty folder, with nothing of the checkout on the path."""
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    install(next(built.glob("*.whl")), site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    bids = home / "bids" / "sub-01" / "anat"
    bids.mkdir(parents=True)
    (bids / "sub-01_T2w.nii.gz").write_text("not read")

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call("-m", "spineseg", "study", "init", "bids", "-profile", "slurm")
    assert (home / "profiles" / "slurm" / "profile.yaml").is_file()
    assert "masks: 2 (0 done" in call("-m", "spineseg", "study", "plan", "-pilot")
    snakefile = site / "spineseg" / "workflow" / "Snakefile"
    planned = call(
        *("-m", "snakemake", "pilot", "--dry-run", "--snakefile", str(snakefile), "--configfile", "study.yaml")
    )
    assert "index_images" in planned

    (wheel,) = (home / ".snakemake" / "spineseg").glob("*/spineseg-*.whl")
    assert str(wheel) in (home / ".snakemake" / "spineseg" / "spineseg.post-deploy.sh").read_text()
    again = tmp_path / "again"
    install(wheel, again)
    files = {path.relative_to(site) for path in (site / "spineseg").rglob("*") if "__pycache__" not in path.parts}
    files = {path for path in files if (site / path).is_file()}
    assert {path for path in files if (again / path).read_bytes() != (site / path).read_bytes()} == set()


def install(wheel: Path, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    done = subprocess.run([*pip, "--target", str(target), str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_is_imported_in_a_tenth_of_a_second():
    """Public names are imported on first use."""
    code = (
        "import sys, time; start = time.process_time(); import spineseg; spent = time.process_time() - start;"
        " print(spent, *[m for m in ('numpy', 'nibabel', 'torch') if m in sys.modules], *dir(spineseg))"
    )
    spent, *names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(spent) < 0.1
    assert not {"numpy", "nibabel", "torch"} & set(names)
    assert {"load", "load_mask", "segment", "measure", "compare", "decide", "StudyFolder"} <= set(names)


def test_matplotlib_is_capped_only_because_of_seaborn():
    """Once seaborn passes no ``vert=``, which matplotlib 3.13 removes, the cap of pyproject.toml can go."""
    import inspect

    from seaborn import categorical

    assert "vert=" in inspect.getsource(categorical)


def test_pinned_versions_support_every_promised_python():
    """Debian 12 has 3.11.2, and a pin that asks for 3.11.5 stopped `make setup` there."""
    specifiers = pytest.importorskip("packaging.specifiers")
    pins = dict(re.findall(r"^([\w.-]+)==([^\s#+]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    refused = [
        f"{one.name} {one.version} {asked}"
        for one in importlib.metadata.distributions()
        if pins.get(re.sub(r"[-_.]+", "-", one.name).lower()) == one.version.partition("+")[0]
        and (asked := one.metadata["Requires-Python"])
        and not specifiers.SpecifierSet(asked).contains("3.11.0")
    ]
    assert not refused
