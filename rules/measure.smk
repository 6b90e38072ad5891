"""Measures of each mask, and its agreement with the reference and with the other methods' masks."""


# these rules only read and join files: too short to queue for
localrules:
    gather_tables,
    gather_pilot,
    gather_study,


rule perturb_chunk:
    """Run a method again on slightly changed copies of a chunk's images, except for finished images."""
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
    """Measure a chunk's masks and compare them with each other."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        manifests=ALL_IMAGES.manifests,
        perturbed=get_perturbed,
    output:
        metrics="results/{dataset}/chunks/measures/{chunk}.metrics.tsv",
        agreement="results/{dataset}/chunks/measures/{chunk}.agreement.tsv",
        slices="results/{dataset}/chunks/measures/{chunk}.slices.tsv.gz",
    log:
        "logs/{dataset}/measure/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/measure/{chunk}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_minutes,
    params:
        methods=ALL_IMAGES.methods,
        exceptions="",
        stage=Stage.ALL.value,
        content=get_chunk_references,
        limits=STUDY.document["plausible"],
        code=digest_step("measure"),
    shell:
        "spineseg measure -results results/{wildcards.dataset} -stage {params.stage}"
        " -chunk {wildcards.chunk} -methods {params.methods} -perturbed {input.perturbed} {params.exceptions} > {log} 2>&1"


use rule measure_chunk as measure_study_chunk with:
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        lock=STUDY_IMAGES.lock,
        exceptions=STUDY_IMAGES.exceptions,
        manifests=STUDY_IMAGES.manifests,
        perturbed=get_study_perturbed,
    output:
        metrics="results/{dataset}/chunks/measures/study/{chunk}.metrics.tsv",
        agreement="results/{dataset}/chunks/measures/study/{chunk}.agreement.tsv",
        slices="results/{dataset}/chunks/measures/study/{chunk}.slices.tsv.gz",
    log:
        "logs/{dataset}/measure/study/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/measure/study/{chunk}.tsv"
    params:
        stage=Stage.STUDY.value,
        methods=STUDY_IMAGES.methods,
        exceptions=flag_exceptions,
        people=get_peoples_masks,


rule gather_tables:
    """Join the chunks' tables of a stage, after checking every mask against its manifest."""
    input:
        table=get_table,
        manifests=ALL_IMAGES.manifests,
        timings=ALL_IMAGES.timings,
        parts=ALL_IMAGES.measures,
    output:
        metrics="results/{dataset}/tables/metrics.tsv",
        agreement="results/{dataset}/tables/agreement.tsv",
        slices="results/{dataset}/tables/slices.tsv.gz",
        timings="results/{dataset}/tables/timings.tsv",
    log:
        "logs/{dataset}/gather.log",
    benchmark:
        "logs/{dataset}/benchmarks/gather.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        stage=Stage.ALL.value,
        methods=ALL_IMAGES.methods,
        exceptions="",
        images=get_images,
        code=digest_step("gather"),
    shell:
        "spineseg gather -results results/{wildcards.dataset} -stage {params.stage} -methods {params.methods} {params.exceptions} > {log} 2>&1"


use rule gather_tables as gather_pilot with:
    input:
        table=get_table,
        manifests=PILOT_IMAGES.manifests,
        timings=PILOT_IMAGES.timings,
        parts=PILOT_IMAGES.measures,
    output:
        metrics="results/{dataset}/pilot/tables/metrics.tsv",
        agreement="results/{dataset}/pilot/tables/agreement.tsv",
        slices="results/{dataset}/pilot/tables/slices.tsv.gz",
        timings="results/{dataset}/pilot/tables/timings.tsv",
    log:
        "logs/{dataset}/pilot/gather.log",
    benchmark:
        "logs/{dataset}/benchmarks/pilot/gather.tsv"
    params:
        stage=Stage.PILOT.value,


use rule gather_tables as gather_study with:
    input:
        table=get_table,
        lock=STUDY_IMAGES.lock,
        exceptions=STUDY_IMAGES.exceptions,
        manifests=STUDY_IMAGES.manifests,
        timings=STUDY_IMAGES.timings,
        parts=STUDY_IMAGES.measures,
    output:
        metrics="results/{dataset}/study/tables/metrics.tsv",
        agreement="results/{dataset}/study/tables/agreement.tsv",
        slices="results/{dataset}/study/tables/slices.tsv.gz",
        timings="results/{dataset}/study/tables/timings.tsv",
    log:
        "logs/{dataset}/study/gather.log",
    benchmark:
        "logs/{dataset}/benchmarks/study/gather.tsv"
    params:
        stage=Stage.STUDY.value,
        methods=STUDY_IMAGES.methods,
        exceptions=flag_exceptions,
