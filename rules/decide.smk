"""The decision, always from the pilot's tables, and the masks that it keeps."""


localrules:
    decide,
    lock_study,
    keep_masks,


rule decide:
    """Decide which method the dataset keeps."""
    input:
        config="results/{dataset}/study.json",
        table="results/{dataset}/images.tsv",
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
        "../envs/spineseg.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        version=__version__,
    shell:
        "spineseg decide -metrics {input.metrics} -agreement {input.agreement} -slices {input.slices}"
        " -table {input.table} -config {input.config} -o {output.decision} > {log} 2>&1"


checkpoint lock_study:
    """Begin the study by the decided method, or check that it goes on as it was begun."""
    input:
        config="results/{dataset}/study.json",
        decision="results/{dataset}/decision.json",
    output:
        lock=update("results/{dataset}/study/lock.json"),
    log:
        "logs/{dataset}/lock.log",
    conda:
        "../envs/spineseg.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        declarations=get_declarations,
        version=__version__,
    shell:
        "spineseg lock -config {input.config} -decision {input.decision} -results results/{wildcards.dataset}"
        " > {log} 2>&1"


rule keep_masks:
    """Put the decided method's masks where other tools look for them."""
    input:
        config="results/{dataset}/study.json",
        table="results/{dataset}/images.tsv",
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
        "../envs/spineseg.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        stage=get_stage,
        version=__version__,
    shell:
        "spineseg keep -config {input.config} -table {input.table} -results results/{wildcards.dataset}"
        " -stage {params.stage} -decision {input.decision} > {log} 2>&1"
