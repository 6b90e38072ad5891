"""The checked configuration, and names that all rules share."""

import os
import shlex
import sys
from pathlib import Path

from snakemake.logging import logger

HERE = workflow.current_basedir
if hasattr(HERE, "__fspath__"):
    # a checkout uses its own package; a workflow included from a git address uses the installed package
    CHECKOUT = Path(HERE).parent.resolve()
    if (CHECKOUT / "spineseg" / "study").is_dir():
        sys.path.insert(0, str(CHECKOUT))
# the environment of this Snakemake comes first on the path, whether activated or not; only conda's comes before it
os.environ |= {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
}


def stop(message):
    """End with one line for a user's mistake, and exit code 2; an error of Snakemake has more lines, and code 1."""
    logger.error(message)
    sys.exit(2)


try:
    import spineseg
except ModuleNotFoundError:
    stop(
        "this workflow needs the package spineseg, of the same version, beside Snakemake: pip install"
        " 'spineseg[study] @ git+<the address that the workflow was included from>'"
    )

from spineseg.errors import InputError
from spineseg.provenance import sha256_json
from spineseg.reading import read_yaml
from spineseg.report.figure_words import FIGURE_WORDS, figure_title
from spineseg.study.configfiles import naming_file
from spineseg.study.configuration import make_configuration
from spineseg.study.describe import write_readme
from spineseg.study.environment import write_environment
from spineseg.study.index import check_before_jobs
from spineseg.study.keep import note_gone
from spineseg.studyfolder.decisions import find_membership
from spineseg.studyfolder.killed import note_killed, read_note
from spineseg.study.lock import check_study, find_refusal, is_frozen
from spineseg.study.notices import list_notices, list_refused
from spineseg.study.old_reports import note_old_report
from spineseg.study.outcome import (
    GO_ON,
    describe_failures,
    describe_result,
    describe_unfinished,
)
from spineseg.study.pace import PaceWatch, follow
from spineseg.study.steps import digest_step
from spineseg.studyfolder.images import read_images
from spineseg.study.workflow_files import workflow_folder
from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder
from spineseg.writing import write_json, write_text

DEMO = "resources/demo"
FIGURE_CAPTIONS = {name: words.caption for name, words in FIGURE_WORDS.items()}

try:
    for file in workflow.configfiles:
        read_yaml(file)  # Snakemake silently takes the last of two equal keys
    with naming_file(*workflow.overwrite_configfiles):
        STUDY = make_configuration(config, demo_dir=DEMO)
    IS_DEMO = STUDY.bids_dir == DEMO
    FOLDER = StudyFolder(Path("results") / STUDY.dataset)
    if workflow.is_main_process:
        # the first job makes the demo's images
        with naming_file(*workflow.overwrite_configfiles):
            check_before_jobs(STUDY, FOLDER, with_images=not IS_DEMO)
        # report damage here in one line, because an error in an input function fills a page
        find_membership(FOLDER)
    # a study that has started keeps its decision: a new decision is written beside it
    DECIDED = "preview/" if is_frozen(STUDY, FOLDER) else ""
    # an input of the rules that keep masks, because Snakemake does not know the masks themselves: it is touched if a
    # mask is gone, or was saved again unchanged
    GONE = str(Path(".snakemake") / "spineseg" / f"{STUDY.dataset}.gone")
    # an input of the rule of each report, touched if other code wrote the report
    OLD_REPORTS = {
        stage: f".snakemake/spineseg/{STUDY.dataset}.{stage}.report" for stage in Stage
    }
    # which chunks have images to be tried again
    KILLED = Path(".snakemake") / "spineseg" / f"{STUDY.dataset}.killed.json"
    if workflow.is_main_process:
        note_gone(FOLDER, Path(GONE))
        note_killed(FOLDER, KILLED)
        for stage, note in OLD_REPORTS.items():
            note_old_report(FOLDER.report(stage), digest_step("report"), Path(note))
        # reported here, because no hook runs if there is nothing to do
        if lines := list_refused(FOLDER, STUDY.methods):
            logger.warning("\n".join(lines))
except InputError as error:
    stop(str(error))

DATASET = STUDY.dataset
METHODS = STUDY.methods
PERTURBATIONS = STUDY.decision.perturbations
# each state of the code has its own environment, so that an update never leaves an old one in use
ENVIRONMENT = write_environment(workflow_folder(), Path(".snakemake") / "spineseg")
# Snakemake fills in wildcards in this path, so braces in a folder's name are doubled
ENVIRONMENT = ENVIRONMENT.replace("{", "{{").replace("}", "}}")
# the complete configuration, named by its content: a run with another configuration does not replace it
CONFIGURATION = f".snakemake/spineseg/study-{sha256_json(STUDY.document)[:16]}.json"
if workflow.is_main_process:
    write_json(CONFIGURATION, STUDY.document)
# its modification time is the start of the run, by the clock of the file system
STARTED = Path(".snakemake") / "spineseg" / "started"


report: "captions/workflow.rst"


wildcard_constraints:
    dataset=DATASET.replace(".", "[.]"),
    method="|".join(METHODS),
    chunk="(pilot|rest)-[0-9]+",


# images per job; a profile sets it by set-scatter, see profiles/README.md
scattergather:
    images_per_job=25,


def asked_stage():
    """The stage that was asked for; None if single files were."""
    targets = set(workflow.dag_settings.targets) or {"all"}
    named = {"all": Stage.ALL, "everything": Stage.ALL, **{s.value: s for s in Stage}}
    return named[targets.pop()] if len(targets) == 1 and targets <= set(named) else None


def word_command(stage):
    """The command that was given, with another stage as its target."""
    words = [stage.value if word in list(Stage) else word for word in sys.argv[1:]]
    return shlex.join(
        ["snakemake", *[stage.value] * (stage.value not in words), *words]
    )


onstart:
    # whatever the target, a study that has started is never mixed with other code or parameters
    try:
        check_study(STUDY, FOLDER, to_study=False)
    except InputError as error:
        stop(str(error))
    write_text(STARTED, "")
    if stage := asked_stage():
        follow(PaceWatch(FOLDER, STUDY, stage), logger.warning)


def describe_outcome():
    """Failures in a few lines: images by method, then jobs. This also updates the README of the results."""
    since = STARTED.stat().st_mtime_ns
    if FOLDER.images.is_file():
        write_readme(FOLDER, STUDY, read_images(FOLDER.images))
    unfinished = describe_unfinished(FOLDER, STUDY, Path("logs") / DATASET, since)
    notices = list_notices(FOLDER, STUDY, asked_stage())
    return [*describe_failures(FOLDER, STUDY), *unfinished, *notices]


onsuccess:
    lines = describe_outcome()
    if stage := asked_stage():
        lines += describe_result(FOLDER, STUDY, stage, word_command)
    if lines:
        logger.warning("\n".join(lines))


onerror:
    logger.error("\n".join([*describe_outcome(), GO_ON]))
