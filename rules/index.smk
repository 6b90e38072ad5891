"""What the study consists of: its configuration in full and the table of its images."""


localrules:
    write_configuration,
    index_images,


rule make_demo:
    """Write the embedded demo dataset of synthetic people."""
    output:
        description=f"{DEMO}/dataset_description.json",
    log:
        "logs/demo.log",
    benchmark:
        "logs/benchmarks/demo.tsv"
    conda:
        "../envs/spineseg.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        version=__version__,
    shell:
        f"spineseg phantom {DEMO} > {{log}} 2>&1"


rule write_configuration:
    """Write the configuration with its defaults, for the steps to read."""
    output:
        config="results/{dataset}/study.json",
    log:
        "logs/{dataset}/configuration.log",
    conda:
        "../envs/spineseg.yaml"
    params:
        study=STUDY,
    script:
        "scripts/write_configuration.py"


checkpoint index_images:
    """List every image, included or with the reason why not; deal them to chunks."""
    input:
        config="results/{dataset}/study.json",
        demo=rules.make_demo.output.description if IS_DEMO else [],
    output:
        table="results/{dataset}/images.tsv",
        dictionary="results/{dataset}/images.json",
        description="results/{dataset}/dataset_description.json",
        readme="results/{dataset}/README",
    log:
        "logs/{dataset}/index.log",
    benchmark:
        "logs/{dataset}/benchmarks/index.tsv"
    conda:
        "../envs/spineseg.yaml"
    resources:
        chunk_images=10,
    params:
        source=get_fingerprint,
        version=__version__,
    shell:
        "spineseg index -config {input.config} -o {output.table}"
        " -chunk-size {resources.chunk_images} > {log} 2>&1"
