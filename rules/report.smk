"""What people look at: every image slice by slice, and the study on one page."""


localrules:
    index_qc,


rule draw_chunk:
    """Draw a chunk's images for the QC page."""
    input:
        table=ancient("results/{dataset}/images.tsv"),
        manifests=get_manifests,
        metrics="results/{dataset}/chunks/measures/{compared}{chunk}.metrics.tsv",
        agreement="results/{dataset}/chunks/measures/{compared}{chunk}.agreement.tsv",
    output:
        manifest="results/{dataset}/{compared}qc/drawn/{chunk}.json",
    log:
        "logs/{dataset}/draw/{compared}{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/draw/{compared}{chunk}.tsv"
    retries: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_minutes,
    params:
        stage=get_stage,
        content=get_chunk_references,
        limits=STUDY.document["plausible"],
        code=digest_step("draw"),
    shell:
        "spineseg qc -results results/{wildcards.dataset} -stage {params.stage} -chunk {wildcards.chunk}"
        " -o results/{wildcards.dataset}/{wildcards.compared}qc -manifest {output.manifest} > {log} 2>&1"


rule index_qc:
    """Build the QC page from the drawn images."""
    input:
        drawn=get_drawn,
    output:
        page="results/{dataset}/{compared}qc/index.html",
    log:
        "logs/{dataset}/{compared}qc.log",
    benchmark:
        "logs/{dataset}/benchmarks/{compared}qc.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        stage=get_stage,
        images=get_images,
        limits=STUDY.document["plausible"],
        code=digest_step("page"),
    shell:
        "spineseg qc -results results/{wildcards.dataset} -stage {params.stage} -index"
        " -o results/{wildcards.dataset}/{wildcards.compared}qc > {log} 2>&1"


rule write_report:
    """Write the report and its figures."""
    input:
        table=get_table,
        decision="results/{dataset}/decision.json",
        metrics="results/{dataset}/{compared}tables/metrics.tsv",
        agreement="results/{dataset}/{compared}tables/agreement.tsv",
        slices="results/{dataset}/{compared}tables/slices.tsv.gz",
        kept="results/{dataset}/{compared}tables/kept.tsv",
        timings=ancient("results/{dataset}/{compared}tables/timings.tsv"),
    output:
        page="results/{dataset}/{compared}report.html",
    log:
        "logs/{dataset}/{compared}report.log",
    benchmark:
        "logs/{dataset}/benchmarks/{compared}report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        stage=get_stage,
        images=get_images,
        code=digest_step("report"),
    shell:
        "spineseg report -results results/{wildcards.dataset} -stage {params.stage} -o {output.page}"
        " > {log} 2>&1"
