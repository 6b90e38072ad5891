"""Masks: one job takes a chunk of images by one method and promises a manifest of what became of each."""


rule segment_chunk:
    """Segment a chunk of images with one method; finished images are not done again."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        images=get_chunk_files,
        masks=get_chunk_masks,
    output:
        manifest="results/{dataset}/chunks/{method}/{chunk}.json",
    log:
        "logs/{dataset}/segment/{method}/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/segment/{method}/{chunk}.tsv"
    retries: 1
    conda:
        "../envs/spineseg.yaml"
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_minutes,
    params:
        facts=get_chunk_facts,
        declaration=get_declaration,
        version=__version__,
    shell:
        "spineseg segment -config {input.config} -table {input.table} -results results/{wildcards.dataset}"
        " -method {wildcards.method} -chunk {wildcards.chunk} -manifest {output.manifest}"
        " -threads {threads} > {log} 2>&1"


rule segment_exceptions:
    """Segment the images of a study that are kept by another method."""
    input:
        config=ancient("results/{dataset}/study.json"),
        table=ancient("results/{dataset}/images.tsv"),
        lock=ancient("results/{dataset}/study/lock.json"),
    output:
        manifest="results/{dataset}/study/exceptions.json",
    log:
        "logs/{dataset}/segment/exceptions.log",
    benchmark:
        "logs/{dataset}/benchmarks/segment/exceptions.tsv"
    retries: 1
    conda:
        "../envs/spineseg.yaml"
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_exception_minutes,
    params:
        excepted=get_excepted,
        version=__version__,
    shell:
        "spineseg segment -exceptions -config {input.config} -decision {input.lock} -table {input.table}"
        " -results results/{wildcards.dataset} -threads {threads} > {log} 2>&1"
