"""The questions that rules ask: which images, chunks, methods and files."""

from functools import cache

from spineseg.file_digests import FileDigests
from spineseg.provenance import sha256_file, sha256_json
from spineseg.study.index import source_fingerprint
from spineseg.studyfolder.decisions import PILOT, find_lock, read_membership
from spineseg.studyfolder.images import read_included


def get_fingerprint(wildcards):
    """What changes when a file of the source comes, goes or is replaced."""
    return "demo" if IS_DEMO else source_fingerprint(STUDY)


@cache
def read_chunks(table_sha256, membership_sha256):
    """Chunk to its images; read once per state of the files."""
    chunk_of = read_membership(FOLDER).chunks
    chunks = {}
    for image in read_included(FOLDER.images):
        chunks.setdefault(chunk_of[image.image_id], []).append(image)
    return chunks


@cache
def read_digests(changed_ns):
    """Checksums of the source's files, as the index has left them."""
    return FileDigests(FOLDER.file_digests)


def get_chunks(wildcards):
    """Chunk to its images, once they are indexed."""
    checkpoints.index_images.get(dataset=wildcards.dataset)
    return read_chunks(sha256_file(FOLDER.images), sha256_file(FOLDER.membership))


def get_chunk(wildcards):
    """The images of a chunk."""
    return get_chunks(wildcards).get(wildcards.chunk, [])


def get_table(wildcards):
    """The table of images, once it is made; its content counts (`get_images`), not its date."""
    return ancient(checkpoints.index_images.get(dataset=wildcards.dataset).output.table)


def get_images(wildcards):
    """What changes when the table of images does."""
    return sha256_file(FOLDER.images) if FOLDER.images.is_file() else ""


def digest_files(paths):
    """The checksum of the content of some files, whatever their names and dates."""
    digests = read_digests(
        FOLDER.file_digests.stat().st_mtime_ns if FOLDER.file_digests.is_file() else 0
    )
    return digests.digest_all(paths)


def get_chunk_content(wildcards):
    """What a chunk's segmentation depends on: images, b-values, existing masks, and the contrasts they are taken for."""
    images, method = get_chunk(wildcards), METHODS[wildcards.method]
    files = [path for image in images for path in (image.path, image.bval) if path]
    files += [mask for image in images for mask in method.find_masks(image)]
    named = [(image.image_id, image.contrast) for image in images]
    return sha256_json([named, digest_files(files)])


def get_chunk_references(wildcards):
    """What a chunk's measures and pictures depend on beside the masks: images and manual masks."""
    images = get_chunk(wildcards)
    files = [path for image in images for path in (image.path, image.reference)]
    return sha256_json([image.image_id for image in images] + [digest_files(files)])


def get_chunk_names(wildcards):
    """The chunks of a stage."""
    first = PILOT if wildcards.get("stage") == "pilot/" else ""
    return sorted(chunk for chunk in get_chunks(wildcards) if chunk.startswith(first))


def is_of_study(wildcards):
    """Whether a job belongs to the study by one method, not to the comparison."""
    return "study/" in (wildcards.get("stage"), wildcards.get("compared"))


def get_lock(wildcards):
    """What the study is held to; only through the method, so its time does not count."""
    if not is_of_study(wildcards):
        return []
    return ancient(checkpoints.lock_study.get(dataset=wildcards.dataset).output.lock)


def get_methods(wildcards):
    """The methods of a stage: all of them, or the study's."""
    lock = get_lock(wildcards)
    return [find_lock(FOLDER).method] if lock else list(METHODS)


def get_study_method(wildcards):
    """The method that the study is held to."""
    checkpoints.lock_study.get(dataset=wildcards.dataset)
    return find_lock(FOLDER).method


def get_measured_stage(wildcards):
    """The stage whose tables a chunk's measures belong to."""
    return STAGES[wildcards.compared].value


def get_exceptions(wildcards):
    """The masks of a study's images that are kept by another method, where the configuration names such."""
    if not is_of_study(wildcards):
        return []
    excepted = STUDY.exceptions_to(get_methods(wildcards)[0])
    return "results/{dataset}/study/exceptions.json" if excepted else []


def flag_exceptions(wildcards, input):
    """The option that names the exceptions, where there are any."""
    return f"-exceptions {input.exceptions}" if input.exceptions else ""


def get_excepted(wildcards):
    """What the excepted images depend on."""
    excepted = {
        image.image_id: digest_files([image.path, image.bval])
        for images in get_chunks(wildcards).values()
        for image in images
        if image.image_id in STUDY.exceptions
    }
    return sha256_json(
        [STUDY.document["exceptions"], excepted, get_declarations(wildcards)]
    )


def get_declarations(wildcards):
    """What changes when the code, the options or the weights of any method do."""
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


def get_timings(wildcards):
    """What the segmentation of all chunks of a stage has cost: told, but no reason to do anything again."""
    pattern = "results/{dataset}/chunks/{method}/{chunk}.timings.tsv"
    chunks = get_chunk_names(wildcards)
    return ancient(
        expand(
            pattern,
            dataset=wildcards.dataset,
            method=get_methods(wildcards),
            chunk=chunks,
        )
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
        table=TABLES,
    )


def get_drawn(wildcards):
    """The lists of what was drawn, of all chunks of a stage."""
    pattern = "results/{dataset}/{compared}qc/drawn/{chunk}.json"
    return expand(pattern, **wildcards, chunk=get_chunk_names(wildcards))


def get_stage(wildcards):
    """The stage's name on the command line."""
    return STAGES[wildcards.get("stage", wildcards.get("compared"))].value


@cache
def digest_method(method):
    """The checksum of what makes a method's masks: its code, its options and its weights."""
    made = METHODS[method].made_by()
    return sha256_json([made.code, dict(made.parameters), dict(made.weights)])


def get_made_by(wildcards):
    """What changes when the code, the options or the weights of a method do, so that it runs again."""
    return digest_method(wildcards.method)


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
    each = [m.timeout_min for m in METHODS.values() if m.kind == "command"]
    return int(10 + max([3, *each]) * len(STUDY.exceptions)) * attempt
