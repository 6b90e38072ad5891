"""The decision, always from the pilot's tables, and the masks that it keeps."""


localrules:
    decide,
    lock_study,
    keep_masks,


rule decide:
    """Decide which method the dataset keeps."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        metrics="results/{dataset}/pilot/tables/metrics.tsv",
        agreement="results/{dataset}/pilot/tables/agreement.tsv",
        slices="results/{dataset}/pilot/tables/slices.tsv.gz",
    output:
        decision="results/{dataset}/decision.json",
        text="results/{dataset}/decision.md",
    log:
        "logs/{dataset}/decide.log",
    benchmark:
        "logs/{dataset}/benchmarks/decide.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        question=[STUDY.document[key] for key in ("methods", "decision", "override")],
        images=get_images,
        code=digest_step("decide"),
    shell:
        "spineseg decide -metrics {input.metrics} -agreement {input.agreement} -slices {input.slices}"
        " -table {input.table} -config {input.config} -o {output.decision} > {log} 2>&1"


checkpoint lock_study:
    """Start the study by the decided method, or check that it goes on as it was started."""
    input:
        config=ancient("results/{dataset}/study.json"),
        decision="results/{dataset}/decision.json",
    output:
        lock=update("results/{dataset}/study/lock.json"),
    log:
        "logs/{dataset}/lock.log",
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
    """Put the decided method's masks where other tools look for them."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=get_table,
        decision="results/{dataset}/decision.json",
        manifests=get_manifests,
        exceptions=get_exceptions,
    output:
        kept="results/{dataset}/{stage}tables/kept.tsv",
    log:
        "logs/{dataset}/{stage}keep.log",
    benchmark:
        "logs/{dataset}/benchmarks/{stage}keep.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        stage=get_stage,
        images=get_images,
        exceptions=STUDY.document["exceptions"],
        code=digest_step("keep"),
    shell:
        "spineseg keep -results results/{wildcards.dataset} -stage {params.stage} > {log} 2>&1"
