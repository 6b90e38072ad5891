"""The decision, always from the pilot's tables; the kept masks, and their areas by level."""


localrules:
    decide,
    check_study,
    lock_study,
    keep_masks,
    keep_study,


rule decide:
    """Decide which method the dataset keeps."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        metrics="results/{dataset}/pilot/tables/metrics.tsv",
        agreement="results/{dataset}/pilot/tables/agreement.tsv",
        slices="results/{dataset}/pilot/tables/slices.tsv.gz",
        levels=get_plan_levels,
    output:
        decision=f"results/{{dataset}}/{DECIDED}decision.json",
        text=report(
            f"results/{{dataset}}/{DECIDED}decision.md",
            caption="captions/decision.rst",
            category="Decision",
        ),
    log:
        "logs/{dataset}/decide.log",
    benchmark:
        "logs/{dataset}/benchmarks/decide.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=get_decide_megabytes,
        runtime=get_decide_minutes,
    params:
        question=[STUDY.document[key] for key in ("methods", "decision", "override")]
        + list(STUDY.pilot.strata),
        marks=[str(STUDY.marks.marks), str(STUDY.marks.preferences)],
        participants=lambda wildcards: digest_files(get_participants(wildcards)),
        images=get_images,
        levels=flag_levels,
        code=digest_step("decide"),
    shell:
        "spineseg decide -metrics {input.metrics} -agreement {input.agreement} -slices {input.slices}"
        " -table {input.table} {params.levels} -config {input.config} -o {output.decision} > {log} 2>&1"


checkpoint check_study:
    """Check, before any job of the study, that code and settings are those of its pilot or of its first images."""
    input:
        # not ancient: of a job after one that runs, Snakemake checks only the inputs, not the params
        config="results/{dataset}/study.json",
    output:
        checked=touch("results/{dataset}/study/checked"),
    log:
        "logs/{dataset}/study/check.log",
    # a refusal would be the same at every try
    retries: 0
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        refusal=get_refusal,
        code=digest_step("lock"),
    shell:
        "spineseg lock -check -results results/{wildcards.dataset} > {log} 2>&1"


checkpoint lock_study:
    """Start the study with the decided method, or check that it continues as it was started."""
    input:
        config=ancient("results/{dataset}/study.json"),
        decision=STUDY_IMAGES.decision,
    output:
        lock=update("results/{dataset}/study/lock.json"),
    log:
        "logs/{dataset}/study/lock.log",
    # a refusal would be the same at every try
    retries: 0
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        declarations=get_declarations,
        accepted=STUDY.document["accept_changes"],
        code=digest_step("lock"),
    shell:
        "spineseg lock -results results/{wildcards.dataset} > {log} 2>&1"


rule keep_masks:
    """Copy the decided method's masks to where other tools look for them."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        decision="results/{dataset}/decision.json",
        manifests=ALL_IMAGES.manifests,
        gone=GONE,
    output:
        kept="results/{dataset}/tables/kept.tsv",
    log:
        "logs/{dataset}/keep.log",
    benchmark:
        "logs/{dataset}/benchmarks/keep.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        stage=Stage.ALL.value,
        images=get_images,
        exceptions=digest_exceptions,
        people=get_corrections,
        code=digest_step("keep"),
    shell:
        "spineseg keep -results results/{wildcards.dataset} -stage {params.stage} > {log} 2>&1"


use rule keep_masks as keep_study with:
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        decision=STUDY_IMAGES.decision,
        manifests=STUDY_IMAGES.manifests,
        exceptions=STUDY_IMAGES.exceptions,
        gone=GONE,
    output:
        kept="results/{dataset}/study/tables/kept.tsv",
    log:
        "logs/{dataset}/study/keep.log",
    benchmark:
        "logs/{dataset}/benchmarks/study/keep.tsv"
    params:
        stage=Stage.STUDY.value,
        people=get_peoples_masks,


rule tabulate_levels:
    """Measure the kept masks by vertebral level, for the table from which statistics start."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        kept="results/{dataset}/tables/kept.tsv",
    output:
        table=report(
            "results/{dataset}/tables/csa.tsv",
            caption="captions/areas.rst",
            category="Areas",
            labels={"stage": "all images"},
        ),
        sct=directory("results/{dataset}/tables/sct"),
        change=["results/{dataset}/tables/change.tsv"] if STUDY.follow_up else [],
    log:
        "logs/{dataset}/levels.log",
    benchmark:
        "logs/{dataset}/benchmarks/levels.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        stage=Stage.ALL.value,
        images=get_images,
        question=[
            STUDY.document[key] for key in ("levels", "columns", "marks", "follow_up")
        ],
        content=get_level_sources,
        code=digest_step("csa"),
    shell:
        "spineseg levels-table -results results/{wildcards.dataset} -stage {params.stage} > {log} 2>&1"


use rule tabulate_levels as tabulate_study_levels with:
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        kept="results/{dataset}/study/tables/kept.tsv",
    output:
        table=report(
            "results/{dataset}/study/tables/csa.tsv",
            caption="captions/areas.rst",
            category="Areas",
            labels={"stage": "study"},
        ),
        sct=directory("results/{dataset}/study/tables/sct"),
        along="results/{dataset}/study/tables/levels.tsv",
        change=["results/{dataset}/study/tables/change.tsv"] if STUDY.follow_up else [],
    log:
        "logs/{dataset}/study/levels.log",
    benchmark:
        "logs/{dataset}/benchmarks/study/levels.tsv"
    params:
        stage=Stage.STUDY.value,


rule tabulate_method_levels:
    """Measure every method's masks by vertebral level, to compare methods, repeats and contrasts."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        manifests=ALL_IMAGES.manifests,
    output:
        table="results/{dataset}/tables/levels.tsv",
    log:
        "logs/{dataset}/method_levels.log",
    benchmark:
        "logs/{dataset}/benchmarks/method_levels.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=3000,
        runtime=240,
    params:
        stage=Stage.ALL.value,
        images=get_images,
        question=[
            *[STUDY.document[key] for key in ("levels", "columns", "marks")],
            STUDY.decision.level,
        ],
        content=get_level_sources,
        references=get_references,
        code=digest_step("csa"),
    shell:
        "spineseg levels-table -methods -results results/{wildcards.dataset} -stage {params.stage} > {log} 2>&1"


use rule tabulate_method_levels as tabulate_pilot_levels with:
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        manifests=PILOT_IMAGES.manifests,
    output:
        table="results/{dataset}/pilot/tables/levels.tsv",
    log:
        "logs/{dataset}/pilot/levels.log",
    benchmark:
        "logs/{dataset}/benchmarks/pilot/levels.tsv"
    params:
        stage=Stage.PILOT.value,
