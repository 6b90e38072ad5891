"""Spinal cord segmentation of one dataset by several methods, and the decision on which one to keep."""

from snakemake.utils import min_version

min_version("9.19")


configfile: "config/config.yaml"


# a workflow that includes this one after rules of its own keeps its own first rule as the default
IS_DEFAULT = workflow.default_target is None

# at the top of a git repository, Snakemake would look for /rules
TOP = workflow.current_basedir
if getattr(TOP, "path", None) == "":
    TOP.path = "."


include: TOP.join("rules/common.smk")
include: TOP.join("rules/inputs.smk")
include: TOP.join("rules/index.smk")
include: TOP.join("rules/segment.smk")
include: TOP.join("rules/measure.smk")
include: TOP.join("rules/decide.smk")
include: TOP.join("rules/report.smk")


rule all:
    """Every image by every method, the decision, the kept masks, QC and report."""
    default_target: IS_DEFAULT
    input:
        decision=f"results/{DATASET}/decision.json",
        tables=multiext(
            f"results/{DATASET}/tables/", *TABLES, "kept.tsv", "csa.tsv", "levels.tsv"
        ),
        qc=f"results/{DATASET}/qc/index.html",
        report=f"results/{DATASET}/report.html",
        figures=f"results/{DATASET}/figures",


rule pilot:
    """The pilot's images by every method: decision, QC and report; once the study has started, a preview of a new one."""
    input:
        decision=f"results/{DATASET}/{DECIDED}decision.json",
        qc=f"results/{DATASET}/pilot/qc/index.html",
        report=f"results/{DATASET}/pilot/report.html",
        figures=f"results/{DATASET}/pilot/figures",


rule study:
    """Every image by the decided method only."""
    input:
        decision=STUDY_IMAGES.decision,
        tables=multiext(
            f"results/{DATASET}/study/tables/", *TABLES, "kept.tsv", "csa.tsv"
        ),
        qc=f"results/{DATASET}/study/qc/index.html",
        report=f"results/{DATASET}/study/report.html",
        figures=f"results/{DATASET}/study/figures",
