"""Pages for people: every image slice by slice, and the study on one page."""


localrules:
    index_qc,
    index_pilot_qc,
    index_study_qc,


rule draw_chunk:
    """Draw a chunk's images for the QC page."""
    input:
        table=ancient("results/{dataset}/images.tsv"),
        manifests=ALL_IMAGES.manifests,
        metrics="results/{dataset}/chunks/measures/{chunk}.metrics.tsv",
        agreement="results/{dataset}/chunks/measures/{chunk}.agreement.tsv",
    output:
        manifest="results/{dataset}/qc/drawn/{chunk}.json",
    log:
        "logs/{dataset}/draw/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/draw/{chunk}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=get_memory,
        runtime=get_minutes,
    params:
        stage=Stage.ALL.value,
        folder=subpath(output.manifest, ancestor=2),
        content=get_chunk_references,
        limits=STUDY.document["plausible"],
        code=digest_step("draw"),
    shell:
        "spineseg qc -results results/{wildcards.dataset} -stage {params.stage} -chunk {wildcards.chunk}"
        " -o {params.folder} -manifest {output.manifest} > {log} 2>&1"


use rule draw_chunk as draw_study_chunk with:
    input:
        table=ancient("results/{dataset}/images.tsv"),
        manifests=STUDY_IMAGES.manifests,
        metrics="results/{dataset}/chunks/measures/study/{chunk}.metrics.tsv",
        agreement="results/{dataset}/chunks/measures/study/{chunk}.agreement.tsv",
    output:
        manifest="results/{dataset}/study/qc/drawn/{chunk}.json",
    log:
        "logs/{dataset}/draw/study/{chunk}.log",
    benchmark:
        "logs/{dataset}/benchmarks/draw/study/{chunk}.tsv"
    params:
        stage=Stage.STUDY.value,
        people=get_peoples_masks,


rule index_qc:
    """Build the QC page from the drawn images."""
    input:
        drawn=ALL_IMAGES.drawn,
    output:
        page="results/{dataset}/qc/index.html",
    log:
        "logs/{dataset}/qc.log",
    benchmark:
        "logs/{dataset}/benchmarks/qc.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        stage=Stage.ALL.value,
        folder=subpath(output.page, parent=True),
        drawn="results/{dataset}/qc",
        images=get_images,
        limits=STUDY.document["plausible"],
        code=digest_step("page"),
    shell:
        "spineseg qc -results results/{wildcards.dataset} -stage {params.stage} -index"
        " -o {params.folder} -drawn {params.drawn} > {log} 2>&1"


use rule index_qc as index_pilot_qc with:
    input:
        drawn=PILOT_IMAGES.drawn,
    output:
        page="results/{dataset}/pilot/qc/index.html",
    log:
        "logs/{dataset}/pilot/qc.log",
    benchmark:
        "logs/{dataset}/benchmarks/pilot/qc.tsv"
    params:
        stage=Stage.PILOT.value,


use rule index_qc as index_study_qc with:
    input:
        drawn=STUDY_IMAGES.drawn,
    output:
        page="results/{dataset}/study/qc/index.html",
    log:
        "logs/{dataset}/study/qc.log",
    benchmark:
        "logs/{dataset}/benchmarks/study/qc.tsv"
    params:
        drawn="results/{dataset}/study/qc",
        stage=Stage.STUDY.value,


rule write_report:
    """Write the report and its figures."""
    input:
        table=get_table,
        decision="results/{dataset}/decision.json",
        metrics="results/{dataset}/tables/metrics.tsv",
        agreement="results/{dataset}/tables/agreement.tsv",
        slices="results/{dataset}/tables/slices.tsv.gz",
        kept="results/{dataset}/tables/kept.tsv",
        csa="results/{dataset}/tables/csa.tsv",
        levels="results/{dataset}/tables/levels.tsv",
        timings=ancient("results/{dataset}/tables/timings.tsv"),
        old=OLD_REPORTS[Stage.ALL],
    output:
        page=report(
            "results/{dataset}/report.html",
            caption="captions/report.rst",
            category="Report",
            labels={"stage": "all images"},
        ),
        figures=report(
            directory("results/{dataset}/figures"),
            patterns=["{figure}.svg"],
            caption="captions/figure.rst",
            category="Figures",
            labels=label_figures("all images"),
        ),
    log:
        "logs/{dataset}/report.log",
    benchmark:
        "logs/{dataset}/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        stage=Stage.ALL.value,
        images=get_images,
        people=get_peoples_masks,
        preview=get_preview,
        references=get_references_table,
        captions=FIGURE_CAPTIONS,
        code=digest_step("report"),
    shell:
        "spineseg report -results results/{wildcards.dataset} -stage {params.stage} -decision {input.decision}"
        " -o {output.page} > {log} 2>&1"


use rule write_report as write_pilot_report with:
    input:
        table=get_table,
        decision=f"results/{{dataset}}/{DECIDED}decision.json",
        metrics="results/{dataset}/pilot/tables/metrics.tsv",
        agreement="results/{dataset}/pilot/tables/agreement.tsv",
        slices="results/{dataset}/pilot/tables/slices.tsv.gz",
        timings=ancient("results/{dataset}/pilot/tables/timings.tsv"),
        old=OLD_REPORTS[Stage.PILOT],
    output:
        page=report(
            "results/{dataset}/pilot/report.html",
            caption="captions/report.rst",
            category="Report",
            labels={"stage": "pilot"},
        ),
        figures=report(
            directory("results/{dataset}/pilot/figures"),
            patterns=["{figure}.svg"],
            caption="captions/figure.rst",
            category="Figures",
            labels=label_figures("pilot"),
        ),
    log:
        "logs/{dataset}/pilot/report.log",
    benchmark:
        "logs/{dataset}/benchmarks/pilot/report.tsv"
    params:
        stage=Stage.PILOT.value,


use rule write_report as write_study_report with:
    input:
        table=get_table,
        decision=STUDY_IMAGES.decision,
        metrics="results/{dataset}/study/tables/metrics.tsv",
        agreement="results/{dataset}/study/tables/agreement.tsv",
        slices="results/{dataset}/study/tables/slices.tsv.gz",
        kept="results/{dataset}/study/tables/kept.tsv",
        csa="results/{dataset}/study/tables/csa.tsv",
        levels="results/{dataset}/study/tables/levels.tsv",
        timings=ancient("results/{dataset}/study/tables/timings.tsv"),
        old=OLD_REPORTS[Stage.STUDY],
    output:
        page=report(
            "results/{dataset}/study/report.html",
            caption="captions/report.rst",
            category="Report",
            labels={"stage": "study"},
        ),
        figures=report(
            directory("results/{dataset}/study/figures"),
            patterns=["{figure}.svg"],
            caption="captions/figure.rst",
            category="Figures",
            labels=label_figures("study"),
        ),
    log:
        "logs/{dataset}/study/report.log",
    benchmark:
        "logs/{dataset}/benchmarks/study/report.tsv"
    params:
        stage=Stage.STUDY.value,
