"""The study's inputs: its complete configuration and the table of its images."""


localrules:
    write_configuration,
    index_images,


rule make_demo:
    """Write the built-in demo dataset of synthetic people."""
    output:
        description=f"{DEMO}/dataset_description.json",
    log:
        "logs/demo.log",
    benchmark:
        "logs/benchmarks/demo.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=digest_step("demo"),
    shell:
        f"spineseg phantom {DEMO} > {{log}} 2>&1"


rule write_configuration:
    """Write the configuration with its defaults, for the steps to read."""
    output:
        config="results/{dataset}/study.json",
    log:
        "logs/{dataset}/configuration.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY.document,
        written=CONFIGURATION,
    shell:
        "cp {params.written} {output.config} 2> {log}"


checkpoint index_images:
    """List every image, included or with the reason for leaving it out, and assign images to chunks."""
    input:
        config="results/{dataset}/study.json",
        demo=rules.make_demo.output.description if IS_DEMO else [],
    output:
        table="results/{dataset}/images.tsv",
        dictionary="results/{dataset}/images.json",
        references="results/{dataset}/references.tsv",
        description="results/{dataset}/dataset_description.json",
        readme="results/{dataset}/README",
    log:
        "logs/{dataset}/index.log",
    benchmark:
        "logs/{dataset}/benchmarks/index.tsv"
    conda:
        ENVIRONMENT
    params:
        chunk_size=len(gather.images_per_job("{scatteritem}")),
        source=get_fingerprint,
        code=digest_step("index"),
    shell:
        "spineseg index -config {input.config} -results results/{wildcards.dataset}"
        " -chunk-size {params.chunk_size} > {log} 2>&1"
