"""Other workflows include this one: from a git address, by both of its Snakefiles, with or without a prefix."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_workflow import ROOT, clean_environment, count_jobs, read_table

CONFIG = "spineseg: {{dataset: tiny, bids_dir: '{bids}', contrasts: [T2star]}}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A git repository with the workflow but without the package, which is installed, as for users."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("rules", "envs", "config", "profiles", "workflow"):
        shutil.copytree(ROOT / name, repository / name)
    shutil.copy(ROOT / "Snakefile", repository)
    git = ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    return repository


def snakemake(
    folder: Path, *words: str, package: bool = True, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"PYTHONPATH": str(ROOT) if package else str(folder)} | (variables or {})
    command = [sys.executable, "-m", "snakemake", *words, "--cores", "1", "--configfile", "mine.yaml"]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def include(folder: Path, snakefile: str, bids: Path, prefix: str = "") -> None:
    """Write a workflow that includes ours."""
    folder.mkdir()
    (folder / "mine.yaml").write_text(CONFIG.format(bids=bids))
    renamed = f" as {prefix}_*" if prefix else ""
    (folder / "Snakefile").write_text(
        f'module spineseg:\n    snakefile: {snakefile}\n    config: config["spineseg"]\n\n'
        f"use rule * from spineseg{renamed}\n"
    )


def test_from_a_git_address(repository, people, tmp_path):
    include(tmp_path / "work", f'"git+file://{repository}/workflow/Snakefile@main"', people)
    done = snakemake(tmp_path / "work", "results/tiny/images.tsv")
    assert done.returncode == 0, done.stdout
    assert len(read_table(tmp_path / "work" / "results" / "tiny" / "images.tsv")) == 4
    planned = snakemake(tmp_path / "work", "pilot", "--dry-run", "--quiet", "rules")
    assert count_jobs(planned.stdout)["segment_chunk"] == 2


def test_by_the_snakefile_at_the_top_with_a_prefix(repository, people, tmp_path):
    top = f'gitfile("{repository}", path="Snakefile", ref="main")'
    include(tmp_path / "work", top, people, prefix="cord")
    planned = snakemake(tmp_path / "work", "cord_pilot", "--dry-run", "--quiet", "rules")
    assert count_jobs(planned.stdout)["cord_index_images"] == 1


@pytest.mark.parametrize("path", ["workflow/Snakefile", "Snakefile"])
@pytest.mark.parametrize(("own_rule_first", "default"), [(True, "mine"), (False, "cord_index_images")])
def test_what_runs_by_default(path, own_rule_first, default, repository, people, tmp_path):
    """The first rule of the including workflow; ours where it has none before."""
    include(tmp_path / "my work", f'gitfile("{repository}", path="{path}", ref="main")', people, prefix="cord")
    snakefile = tmp_path / "my work" / "Snakefile"
    own = 'rule mine:\n    output: "mine.txt"\n    shell: "touch {output}"\n\n'
    ours = snakefile.read_text()
    snakefile.write_text(own + ours if own_rule_first else ours + own)
    planned = count_jobs(snakemake(tmp_path / "my work", "--dry-run", "--quiet", "rules").stdout)
    assert planned[default] == 1
    assert ("cord_index_images" in planned) == (not own_rule_first)


def test_from_github(repository, people, tmp_path, monkeypatch):
    """Snakemake uses its code for GitHub; a setting of git redirects it to the local repository."""
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)  # it would become a part of the address
    subprocess.run(["git", "-C", str(repository), "tag", "v0.1.0"], check=True)
    include(tmp_path / "work", 'github("OWNER/spineseg", path="workflow/Snakefile", tag="v0.1.0")', people, "cord")
    elsewhere = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/OWNER/spineseg",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = snakemake(tmp_path / "work", "results/tiny/images.tsv", variables=elsewhere)
    assert done.returncode == 0, done.stdout
    assert "Cloning github.com/OWNER/spineseg" in done.stdout
    assert len(read_table(tmp_path / "work" / "results" / "tiny" / "images.tsv")) == 4
    planned = snakemake(tmp_path / "work", "cord_pilot", "--dry-run", "--quiet", "rules", variables=elsewhere)
    assert count_jobs(planned.stdout)["cord_segment_chunk"] == 2


def test_without_the_package_one_line_says_what_to_install(repository, people, tmp_path):
    work = tmp_path / "work"
    include(work, f'"git+file://{repository}/workflow/Snakefile@main"', people)
    # an empty package of that name acts like one that is not installed
    (work / "sitecustomize.py").write_text("import sys; sys.modules['spineseg'] = None\n")
    done = snakemake(work, "pilot", "--dry-run", package=False)
    assert done.returncode == 2
    assert "needs the package spineseg, of the same version, beside Snakemake: pip install" in done.stdout
    assert "Traceback" not in done.stdout
