"""The questions that rules ask: which images, chunks, methods and files."""

from functools import cache

from spineseg.provenance import sha256_json
from spineseg.study.chunks import PILOT
from spineseg.study.exceptions import exceptions_from
from spineseg.study.images import read_included
from spineseg.study.index import source_fingerprint
from spineseg.study.keep import read_decided_method


def get_fingerprint(wildcards):
    """What changes when the source has other images."""
    return "demo" if IS_DEMO else source_fingerprint(STUDY)


@cache
def read_chunks(table, changed_ns):
    """Chunk to its images; read once per state of the table."""
    chunks = {}
    for row in read_included(table):
        chunks.setdefault(row["chunk"], []).append(row)
    return chunks


def get_chunks(wildcards):
    """Chunk to its images, once they are indexed."""
    table = checkpoints.index_images.get(dataset=wildcards.dataset).output.table
    return read_chunks(table, Path(table).stat().st_mtime_ns)


def get_chunk(wildcards):
    """The images of a chunk."""
    return get_chunks(wildcards).get(wildcards.chunk, [])


def get_chunk_files(wildcards):
    """The files a chunk is made from; one that has gone is the segmentation's to report."""
    named = [
        row[key] for row in get_chunk(wildcards) for key in ("path", "bval") if row[key]
    ]
    return [path for path in named if Path(path).is_file()]


def get_chunk_references(wildcards):
    """The manual masks of a chunk's images."""
    named = [row["reference"] for row in get_chunk(wildcards) if row["reference"]]
    return [path for path in named if Path(path).is_file()]


def get_chunk_facts(wildcards):
    """What else a chunk's segmentation depends on: its images and the contrasts they are taken for."""
    return sha256_json(
        [(row["image_id"], row["contrast"]) for row in get_chunk(wildcards)]
    )


def get_chunk_names(wildcards):
    """The chunks of a stage."""
    first = PILOT if wildcards.get("stage") == "pilot/" else ""
    return sorted(chunk for chunk in get_chunks(wildcards) if chunk.startswith(first))


def is_of_study(wildcards):
    """Whether a job belongs to the study by one method, not to the comparison."""
    return "study/" in (wildcards.get("stage"), wildcards.get("compared"))


def get_lock(wildcards):
    """What the study was begun by; only through the method, so its time does not count."""
    if not is_of_study(wildcards):
        return []
    return ancient(checkpoints.lock_study.get(dataset=wildcards.dataset).output.lock)


def get_methods(wildcards):
    """The methods of a stage: all of them, or the study's."""
    lock = get_lock(wildcards)
    return [read_decided_method(lock)] if lock else list(METHODS)


def get_exceptions(wildcards):
    """The masks of a study's images that are kept by another method, where the configuration names such."""
    if not is_of_study(wildcards):
        return []
    excepted = exceptions_from(STUDY, get_methods(wildcards)[0])
    return "results/{dataset}/study/exceptions.json" if excepted else []


def flag_exceptions(wildcards, input):
    """The option that names the exceptions, where there are any."""
    return f"-exceptions {input.exceptions}" if input.exceptions else ""


def get_excepted(wildcards):
    """What the excepted images depend on."""
    return sha256_json([STUDY["exceptions"], get_declarations(wildcards)])


def get_declarations(wildcards):
    """What changes when any method gets other options or weights."""
    return {method: digest_method(method) for method in METHODS}


def get_manifests(wildcards):
    """The manifests of a chunk, or of all chunks of a stage."""
    chunks = (
        [wildcards.chunk] if "chunk" in wildcards.keys() else get_chunk_names(wildcards)
    )
    pattern = "results/{dataset}/chunks/{method}/{chunk}.json"
    return expand(
        pattern, dataset=wildcards.dataset, method=get_methods(wildcards), chunk=chunks
    )


def get_perturbed(wildcards):
    """How far each method of a pilot's chunk agrees with itself on changed images."""
    if not PERTURBATIONS or not wildcards.chunk.startswith(PILOT):
        return []
    pattern = "results/{dataset}/chunks/perturbed/{method}/{chunk}.json"
    again = [m for m in get_methods(wildcards) if METHODS[m].kind != "files"]
    return expand(
        pattern, dataset=wildcards.dataset, method=again, chunk=wildcards.chunk
    )


def get_measures(wildcards):
    """The tables of all chunks of a stage."""
    return expand(
        "results/{dataset}/chunks/measures/{compared}{chunk}.{table}",
        dataset=wildcards.dataset,
        compared="study/" if wildcards.stage == "study/" else "",
        chunk=get_chunk_names(wildcards),
        table=["metrics.tsv", "agreement.tsv", "slices.tsv.gz"],
    )


def get_drawn(wildcards):
    """The lists of what was drawn, of all chunks of a stage."""
    pattern = "results/{dataset}/{compared}qc/drawn/{chunk}.json"
    return expand(pattern, **wildcards, chunk=get_chunk_names(wildcards))


def get_stage(wildcards):
    """The stage's name on the command line."""
    return STAGES[wildcards.get("stage", wildcards.get("compared"))]


@cache
def digest_method(method):
    """The checksum of a method's declaration and all its weights."""
    return METHODS[method].digest()


def get_declaration(wildcards):
    """What changes when a method gets other options or weights, so that it runs anew."""
    return digest_method(wildcards.method)


def get_chunk_masks(wildcards):
    """The existing masks of a chunk's images, where the method is such."""
    method = METHODS[wildcards.method]
    return [path for row in get_chunk(wildcards) for path in method.find_masks(row)]


def get_memory(wildcards, attempt):
    """MB for one process: a full field of view, its features and the networks; more after a kill."""
    return 3000 * attempt


def get_minutes(wildcards, input, attempt):
    """Minutes for a chunk: start-up and three for each image, far above the usual, below what wedges a queue."""
    method = METHODS.get(wildcards.get("method"))
    each = method.timeout_min if method and method.kind == "command" else 3
    return int(10 + each * len(get_chunk(wildcards))) * attempt


def get_perturbation_minutes(wildcards, input, attempt):
    """Minutes for a chunk's changed copies."""
    return get_minutes(wildcards, input, attempt) * PERTURBATIONS


def get_exception_minutes(wildcards, attempt):
    """Minutes for the excepted images, each by a method that may be a program."""
    longest = max(
        3,
        *(
            method.timeout_min
            for method in METHODS.values()
            if method.kind == "command"
        ),
        3,
    )
    return int(10 + longest * len(STUDY["exceptions"])) * attempt
