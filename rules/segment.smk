"""Masks: one job segments a chunk of images with one method and writes a manifest with the result of each."""


rule segment_chunk:
    """Segment a chunk of images with one method, except for finished images."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
    output:
        manifest="results/{dataset}/chunks/{method}/{chunk}.json",
        timings="results/{dataset}/chunks/{method}/{chunk}.timings.tsv",
    log:
        "logs/{dataset}/segment/{method}/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/segment/{method}/{chunk}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_minutes,
    params:
        content=get_chunk_content,
        made_by=get_made_by,
    shell:
        "spineseg segment -results results/{wildcards.dataset} -method {wildcards.method}"
        " -chunk {wildcards.chunk} -threads {threads} > {log} 2>&1"


rule segment_exceptions:
    """Make the masks of a study that are kept by another method, including manual ones of the dataset."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        lock=STUDY_IMAGES.lock,
    output:
        manifest="results/{dataset}/study/exceptions.json",
    log:
        "logs/{dataset}/segment/exceptions.log",
    benchmark:
        "logs/{dataset}/benchmarks/segment/exceptions.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_exception_minutes,
    params:
        excepted=get_excepted,
        method=STUDY_IMAGES.methods,
    shell:
        "spineseg segment -exceptions -results results/{wildcards.dataset} -method {params.method[0]}"
        " -threads {threads} > {log} 2>&1"
