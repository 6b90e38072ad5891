"""The checked configuration, and what all rules share."""

import os
import sys
from pathlib import Path

SOURCE = Path(workflow.current_basedir).parent.resolve()
sys.path.insert(0, str(SOURCE))
os.environ |= {
    # the environment of this Snakemake comes first, activated or not; conda's goes before it
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    # for envs/spineseg.post-deploy.sh
    "SPINESEG_SOURCE": str(SOURCE),
}

from spineseg import __version__
from spineseg.decision.params import params_from_config
from spineseg.errors import InputError
from spineseg.study.declared import declared_methods
from spineseg.study.lock import check_study
from spineseg.study.configuration import (
    check_meaning,
    check_sources,
    complete_configuration,
)

DEMO = "resources/demo"

try:
    STUDY = complete_configuration(config, demo_dir=DEMO)
    IS_DEMO = STUDY["bids_dir"] == DEMO
    if workflow.is_main_process:
        # the demo's images are made by the first job
        check_meaning(STUDY) if IS_DEMO else check_sources(STUDY)
        results = f"results/{STUDY['dataset']}"
        asked = [
            word
            for word in sys.argv[1:]
            if word == "study" or word.startswith(f"{results}/study/")
        ]
        if "--unlock" not in sys.argv:
            check_study(STUDY, results, to_study=bool(asked))
except InputError as error:
    # one line and no traceback, which an exception would bring
    print(f"spineseg: error: {error}", file=sys.stderr)
    sys.exit(2)

DATASET = STUDY["dataset"]
METHODS = declared_methods(STUDY)
PERTURBATIONS = params_from_config(STUDY["decision"]).perturbations
TABLES = ["metrics.tsv", "agreement.tsv", "slices.tsv.gz", "kept.tsv"]
STAGES = {"": "all", "pilot/": "pilot", "study/": "study"}


wildcard_constraints:
    dataset=DATASET.replace(".", "[.]"),
    stage="(pilot/|study/)?",
    compared="(study/)?",
    method="|".join(METHODS),
    chunk="(pilot|rest)-[0-9]+",
