"""Spinal cord segmentation of one dataset by several methods, and the decision which one to keep."""

from snakemake.utils import min_version

min_version("9.19")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/index.smk"
include: "rules/segment.smk"
include: "rules/measure.smk"
include: "rules/decide.smk"
include: "rules/report.smk"


rule all:
    """Every image by every method, the decision, the kept masks, QC and report."""
    default_target: True
    input:
        decision=f"results/{DATASET}/decision.json",
        tables=multiext(
            f"results/{DATASET}/tables/", *TABLES, "kept.tsv", "csa.tsv", "levels.tsv"
        ),
        qc=f"results/{DATASET}/qc/index.html",
        report=f"results/{DATASET}/report.html",


rule pilot:
    """The pilot's images by every method: decision, QC and report; once the study has started, a preview of another."""
    input:
        decision=f"results/{DATASET}/{DECIDED}decision.json",
        qc=f"results/{DATASET}/pilot/qc/index.html",
        report=f"results/{DATASET}/pilot/report.html",


rule study:
    """Every image by the decided method alone."""
    input:
        decision=STUDY_IMAGES.decision,
        tables=multiext(
            f"results/{DATASET}/study/tables/", *TABLES, "kept.tsv", "csa.tsv"
        ),
        qc=f"results/{DATASET}/study/qc/index.html",
        report=f"results/{DATASET}/study/report.html",
