"""The checked configuration, and what all rules share."""

import os
import sys
from pathlib import Path

SOURCE = Path(workflow.current_basedir).parent.resolve()
sys.path.insert(0, str(SOURCE))
# the environment of this Snakemake comes first, activated or not; conda's goes before it
os.environ |= {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
}

from spineseg.errors import InputError
from spineseg.reading import read_yaml
from spineseg.study.configuration import make_configuration
from spineseg.study.environment import write_environment
from spineseg.study.index import check_before_jobs
from spineseg.study.lock import check_study
from spineseg.study.steps import digest_step
from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder

DEMO = "resources/demo"

try:
    for file in workflow.configfiles:
        read_yaml(file)  # Snakemake takes the last of two equal keys without a word
    STUDY = make_configuration(config, demo_dir=DEMO)
    IS_DEMO = STUDY.bids_dir == DEMO
    FOLDER = StudyFolder(Path("results") / STUDY.dataset)
    if workflow.is_main_process:
        # the demo's images are made by the first job
        check_before_jobs(STUDY, with_images=not IS_DEMO)
        asked = [
            word
            for word in sys.argv[1:]
            if word == "study" or word.startswith(f"{FOLDER.stage(Stage.STUDY)}/")
        ]
        if "--unlock" not in sys.argv:
            check_study(STUDY, FOLDER, to_study=bool(asked))
except InputError as error:
    # one line and no traceback, which an exception would bring
    print(f"spineseg: error: {error}", file=sys.stderr)
    sys.exit(2)

DATASET = STUDY.dataset
METHODS = STUDY.methods
PERTURBATIONS = STUDY.decision.perturbations
STAGES = {"": Stage.ALL, "pilot/": Stage.PILOT, "study/": Stage.STUDY}
# another environment for other code, so that none is left behind by an update
ENVIRONMENT = write_environment(SOURCE / "envs", Path(".snakemake") / "spineseg")


wildcard_constraints:
    dataset=DATASET.replace(".", "[.]"),
    stage="(pilot/|study/)?",
    compared="(study/)?",
    method="|".join(METHODS),
    chunk="(pilot|rest)-[0-9]+",
