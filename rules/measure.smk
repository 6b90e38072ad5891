"""Numbers: what each mask measures, how it agrees with its reference and with the other methods' masks."""


# reading and joining files: too short to wait in a queue for
localrules:
    gather_tables,


rule perturb_chunk:
    """Run a method again on slightly changed copies of a chunk's images; finished images are not done again."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        manifest="results/{dataset}/chunks/{method}/{chunk}.json",
    output:
        manifest="results/{dataset}/chunks/perturbed/{method}/{chunk}.json",
    log:
        "logs/{dataset}/perturb/{method}/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/perturb/{method}/{chunk}.tsv"
    retries: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_perturbation_minutes,
    params:
        n=PERTURBATIONS,
        code=digest_step("perturb"),
    shell:
        "spineseg perturb -results results/{wildcards.dataset} -method {wildcards.method}"
        " -chunk {wildcards.chunk} -n {params.n} -threads {threads} > {log} 2>&1"


rule measure_chunk:
    """Measure a chunk's masks and compare them."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        lock=get_lock,
        exceptions=get_exceptions,
        manifests=get_manifests,
        perturbed=get_perturbed,
    output:
        metrics="results/{dataset}/chunks/measures/{compared}{chunk}.metrics.tsv",
        agreement="results/{dataset}/chunks/measures/{compared}{chunk}.agreement.tsv",
        slices="results/{dataset}/chunks/measures/{compared}{chunk}.slices.tsv.gz",
    log:
        "logs/{dataset}/measure/{compared}{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/measure/{compared}{chunk}.tsv"
    retries: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_minutes,
    params:
        methods=get_methods,
        exceptions=flag_exceptions,
        stage=get_measured_stage,
        content=get_chunk_references,
        limits=STUDY.document["plausible"],
        code=digest_step("measure"),
    shell:
        "spineseg measure -results results/{wildcards.dataset} -stage {params.stage}"
        " -chunk {wildcards.chunk} -methods {params.methods} -perturbed {input.perturbed} {params.exceptions} > {log} 2>&1"


rule gather_tables:
    """Join the chunks' tables of a stage, after checking every mask against its manifest."""
    input:
        table=get_table,
        lock=get_lock,
        exceptions=get_exceptions,
        manifests=get_manifests,
        timings=get_timings,
        parts=get_measures,
    output:
        metrics="results/{dataset}/{stage}tables/metrics.tsv",
        agreement="results/{dataset}/{stage}tables/agreement.tsv",
        slices="results/{dataset}/{stage}tables/slices.tsv.gz",
        timings="results/{dataset}/{stage}tables/timings.tsv",
    log:
        "logs/{dataset}/{stage}gather.log",
    benchmark:
        "logs/{dataset}/benchmarks/{stage}gather.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        stage=get_stage,
        methods=get_methods,
        exceptions=flag_exceptions,
        images=get_images,
        code=digest_step("gather"),
    shell:
        "spineseg gather -results results/{wildcards.dataset} -stage {params.stage} -methods {params.methods} {params.exceptions} > {log} 2>&1"
