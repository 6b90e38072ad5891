"""Functions that give rules their images, chunks, methods and files."""

import json
from functools import cache

from spineseg.file_digests import FileDigests, stamp_of
from spineseg.methods.declared import MANUAL
from spineseg.provenance import sha256_file, sha256_json
from spineseg.study.choices import find_exceptions
from spineseg.study.change import session_files
from spineseg.study.index import source_fingerprint
from spineseg.study.keep import marked_failed
from spineseg.study.level_labels import find_label_files
from spineseg.study.sources import find_level_folder
from spineseg.studyfolder.corrections import correction_files, find_correction
from spineseg.studyfolder.decisions import PILOT, read_membership
from spineseg.studyfolder.images import read_included
from spineseg.studyfolder.locks import KeptMethods, find_lock


def get_fingerprint(wildcards):
    """A digest that changes when a file of the source is added, removed or replaced."""
    return "demo" if IS_DEMO else source_fingerprint(STUDY)


@cache
def read_chunks(table_sha256, membership_sha256):
    """Chunk to its images, read once as long as the files do not change."""
    chunk_of = read_membership(FOLDER).chunks
    chunks = {}
    for image in read_included(FOLDER.images):
        chunks.setdefault(chunk_of[image.image_id], []).append(image)
    return chunks


@cache
def read_lock(lock_sha256):
    """The lock of the study, read once as long as its file does not change."""
    return find_lock(FOLDER)


@cache
def read_digests(changed_ns):
    """Checksums of the source's files, as the index has stored them."""
    return FileDigests(FOLDER.file_digests)


def get_chunks(wildcards):
    """Chunk to its images, once they are indexed."""
    checkpoints.index_images.get(dataset=wildcards.dataset)
    return read_chunks(sha256_file(FOLDER.images), sha256_file(FOLDER.membership))


def get_chunk(wildcards):
    """The images of a chunk."""
    return get_chunks(wildcards).get(wildcards.chunk, [])


def get_table(wildcards):
    """The table of images, once it exists; its content counts (`get_images`), not its date."""
    return ancient(checkpoints.index_images.get(dataset=wildcards.dataset).output.table)


def get_images(wildcards):
    """The checksum of the table of images."""
    return sha256_file(FOLDER.images) if FOLDER.images.is_file() else ""


def get_references_table(wildcards):
    """The checksum of the table of reference masks."""
    return sha256_file(FOLDER.references) if FOLDER.references.is_file() else ""


def digest_files(paths):
    """The checksum of the content of some files, whatever their names and dates."""
    digests = read_digests(
        FOLDER.file_digests.stat().st_mtime_ns if FOLDER.file_digests.is_file() else 0
    )
    return digests.digest_all(paths)


def get_chunk_content(wildcards):
    """Inputs of a chunk's segmentation: images, b-values and existing masks, with the contrasts to segment them as."""
    images, method = get_chunk(wildcards), METHODS[wildcards.method]
    files = [path for image in images for path in (image.path, image.bval) if path]
    files += [mask for image in images for mask in method.find_masks(image)]
    named = [(image.image_id, image.contrast) for image in images]
    manifest = FOLDER.manifest(wildcards.method, wildcards.chunk)
    return sha256_json([named, digest_files(files), *read_killed(manifest)])


@cache
def read_killed(manifest):
    """The time at which images of a manifest were found that are to be tried again; empty if there are none."""
    when = read_note(KILLED).get(FOLDER.relative(manifest))
    return [when] if when else []


def get_chunk_references(wildcards):
    """Inputs of a chunk's measures and pictures beside the masks: images and manual masks."""
    images = get_chunk(wildcards)
    files = [path for image in images for path in (image.path, image.reference)]
    named = [(image.image_id, image.reference_label) for image in images]
    return sha256_json([named, digest_files(files)])


def get_level_sources(wildcards):
    """Inputs of the areas by level beside the masks: labels, participants.tsv and raters' marks."""
    files = [
        one.path
        for found in find_label_files(
            find_level_folder(STUDY), STUDY.level_marks
        ).values()
        for one in found
    ]
    if STUDY.columns:
        files.append(str(Path(STUDY.bids_dir or ".") / "participants.tsv"))
    if STUDY.follow_up:
        files += map(str, session_files(STUDY.bids_dir or "."))
    return sha256_json([files, digest_files([*files, *STUDY.marks.files])])


def get_references(wildcards):
    """The manual masks that are measured at the plan's level, if there is one."""
    if not STUDY.decision.level:
        return ""
    images = [image for chunk in get_chunks(wildcards).values() for image in chunk]
    return sha256_json(
        [STUDY.reference_label, digest_files([one.reference for one in images])]
    )


def get_plan_levels(wildcards):
    """The table of areas at the plan's level, if the plan names one."""
    table = "results/{dataset}/pilot/tables/levels.tsv"
    return table if STUDY.decision.level else []


def flag_levels(wildcards, input):
    """The option that names that table."""
    return f"-levels {input.levels}" if input.levels else ""


class StageInputs:
    """Inputs of the rules of one stage, for one chunk or for all chunks of the stage."""

    def __init__(self, stage):
        self.stage = stage

    def chunks(self, wildcards):
        """The chunk of a job, or all chunks of the stage."""
        if "chunk" in wildcards.keys():
            return [wildcards.chunk]
        first = PILOT if self.stage == Stage.PILOT else ""
        return sorted(
            chunk for chunk in get_chunks(wildcards) if chunk.startswith(first)
        )

    def methods_of(self, chunk, wildcards):
        """The methods of a chunk: all of them, or those that the study keeps for its images."""
        return list(METHODS)

    def methods(self, wildcards):
        """The methods of a job's chunk, or of the stage."""
        chunks = self.chunks(wildcards)
        found = {m for chunk in chunks for m in self.methods_of(chunk, wildcards)}
        return [method for method in METHODS if method in found]

    def files(self, wildcards, ending):
        """One file for every method and chunk."""
        return [
            f"results/{DATASET}/chunks/{method}/{chunk}{ending}"
            for chunk in self.chunks(wildcards)
            for method in self.methods_of(chunk, wildcards)
        ]

    def manifests(self, wildcards):
        """The manifests, with the result of each image."""
        return self.files(wildcards, ".json")

    def timings(self, wildcards):
        """The times of the segmentation, which are reported; a change of them is no reason to run anything again."""
        return ancient(self.files(wildcards, ".timings.tsv"))

    def measures(self, wildcards):
        """The tables of the chunks."""
        study = "study/" if self.stage == Stage.STUDY else ""
        return expand(
            f"results/{{dataset}}/chunks/measures/{study}{{chunk}}.{{table}}",
            dataset=DATASET,
            chunk=self.chunks(wildcards),
            table=TABLES,
        )

    def drawn(self, wildcards):
        """The lists of drawn images."""
        study = "study/" if self.stage == Stage.STUDY else ""
        pattern = f"results/{{dataset}}/{study}qc/drawn/{{chunk}}.json"
        return expand(pattern, dataset=DATASET, chunk=self.chunks(wildcards))


class StudyInputs(StageInputs):
    """The same for the stage study; none of its jobs is planned before the study has been checked and locked."""

    def decision(self, wildcards):
        """The decision, after the check that the study does not mix code or settings."""
        checkpoints.check_study.get(dataset=DATASET)
        return f"results/{DATASET}/decision.json"

    def lock(self, wildcards):
        """The lock of the study; only its methods matter to the rules, so its time does not count."""
        checkpoints.check_study.get(dataset=DATASET)
        return ancient(checkpoints.lock_study.get(dataset=DATASET).output.lock)

    def kept(self, wildcards):
        """The method, or one for each contrast, that the study is held to."""
        self.lock(wildcards)
        return read_lock(sha256_file(FOLDER.lock)).kept

    def methods_of(self, chunk, wildcards):
        """The methods that the study keeps for a chunk's images."""
        kept = self.kept(wildcards)
        contrasts = {image.contrast for image in get_chunks(wildcards)[chunk]}
        found = {kept.of(contrast) for contrast in contrasts}
        return [method for method in METHODS if method in found]

    def exceptions(self, wildcards):
        """The masks that are kept by another method, if there are any."""
        found = list_exceptions(wildcards, self.kept(wildcards))
        return f"results/{DATASET}/study/exceptions.json" if found else []


ALL_IMAGES = StageInputs(Stage.ALL)
PILOT_IMAGES = StageInputs(Stage.PILOT)
STUDY_IMAGES = StudyInputs(Stage.STUDY)


def get_refusal(wildcards):
    """Why the study may not continue; empty if it may. A change of this makes the check run again."""
    return find_refusal(STUDY, FOLDER)


def flag_exceptions(wildcards, input):
    """The option that names the exceptions, if there are any."""
    return f"-exceptions {input.exceptions}" if input.exceptions else ""


@cache
def read_correction(image, changed):
    """The corrected mask of an image with its author, read once as long as its files do not change."""
    found = find_correction(FOLDER, image)
    return [image.image_id, *vars(found).values()] if found else None


def get_corrections(wildcards):
    """Masks that people have corrected, of a chunk or of all."""
    if "chunk" in wildcards.keys():
        images = get_chunk(wildcards)
    else:
        images = [image for own in get_chunks(wildcards).values() for image in own]
    found = []
    for image in images:
        stamps = [stamp_of(path) for path in correction_files(FOLDER, image)]
        if any(stamps):
            found.append(read_correction(image, str(stamps)))
    return [one for one in found if one]


def get_failed_masks(wildcards):
    """Masks of the study that raters have failed, of a chunk or of all."""
    images = get_chunks(wildcards)
    own = [wildcards.chunk] if "chunk" in wildcards.keys() else list(images)
    named = {image.image_id for chunk in own for image in images.get(chunk, [])}
    failed = marked_failed(STUDY, Stage.STUDY)
    return sorted(
        [
            *key,
            *(
                [m.words(), m.mask_sha256]
                for m in sorted(marks, key=lambda m: (m.rater, m.time))
            ),
        ]
        for key, marks in failed.items()
        if key[0] in named
    )


def get_peoples_masks(wildcards):
    """People's decisions about the masks of a study: corrections, and masks that do not count until corrected."""
    return sha256_json([get_corrections(wildcards), get_failed_masks(wildcards)])


@cache
def read_exceptions(table_sha256, membership_sha256, kept_words):
    """Images for which another method than the study's is chosen, read once as long as the files do not change."""
    chunks = read_chunks(table_sha256, membership_sha256)
    images = [image for own in chunks.values() for image in own]
    chosen = find_exceptions(STUDY, KeptMethods(*json.loads(kept_words)), images)
    return [
        (image, chosen[image.image_id]) for image in images if image.image_id in chosen
    ]


def list_exceptions(wildcards, kept):
    """The same for the present files."""
    get_chunks(wildcards)
    digests = sha256_file(FOLDER.images), sha256_file(FOLDER.membership)
    return read_exceptions(*digests, json.dumps([kept.method, dict(kept.by_contrast)]))


def digest_exceptions(wildcards, kept=KeptMethods(None)):
    """Inputs of the masks that are kept by another method than the study's, whichever that is."""
    return sha256_json(
        [
            [
                image.image_id,
                image.reference_label if choice.method == MANUAL else None,
                vars(choice),
                digest_files(
                    [image.reference]
                    if choice.method == MANUAL
                    else [path for path in (image.path, image.bval) if path]
                ),
            ]
            for image, choice in list_exceptions(wildcards, kept)
        ]
    )


def get_preview(wildcards):
    """The preview of a new decision of a study that has started."""
    return sha256_file(FOLDER.preview) if FOLDER.preview.is_file() else ""


def get_excepted(wildcards):
    """The same for the study, and the methods that may make them."""
    excepted = digest_exceptions(wildcards, STUDY_IMAGES.kept(wildcards))
    declared = get_declarations(wildcards)
    return sha256_json([excepted, declared, *read_killed(FOLDER.exceptions)])


def get_declarations(wildcards):
    """A value that changes with the code, the options or the weights of any method."""
    return {method: digest_method(method) for method in METHODS}


def get_perturbed(wildcards, methods=tuple(METHODS)):
    """The agreement of each method with itself on changed copies of a pilot chunk's images."""
    if not PERTURBATIONS or not wildcards.chunk.startswith(PILOT):
        return []
    pattern = "results/{dataset}/chunks/perturbed/{method}/{chunk}.json"
    again = [name for name in methods if METHODS[name].kind != "files"]
    return expand(pattern, dataset=DATASET, method=again, chunk=wildcards.chunk)


def get_study_perturbed(wildcards):
    """The same for the study's method."""
    return get_perturbed(wildcards, STUDY_IMAGES.methods(wildcards))


@cache
def digest_method(method):
    """The checksum of a method's code, options and weights."""
    made = METHODS[method].made_by()
    return sha256_json([made.code, dict(made.parameters), dict(made.weights)])


def get_made_by(wildcards):
    """A value that changes with the code, the options or the weights of a method, so that it runs again."""
    return digest_method(wildcards.method)


def get_memory(wildcards, attempt):
    """Memory for one process, MB: a full field of view, its features and the networks; more after a kill."""
    return 3000 * attempt


def get_minutes(wildcards, input, attempt):
    """Minutes for a chunk: start-up and three for each image, far above the usual time, but not too long to queue."""
    method = METHODS.get(wildcards.get("method"))
    each = method.timeout_min if method and method.kind == "command" else 3
    return int(10 + each * len(get_chunk(wildcards))) * attempt


def get_perturbation_minutes(wildcards, input, attempt):
    """Minutes for a chunk's changed copies."""
    return get_minutes(wildcards, input, attempt) * PERTURBATIONS


def get_exception_minutes(wildcards, attempt):
    """Minutes for the images with exceptions, each by a method that may be a program."""
    each = [m.timeout_min for m in METHODS.values() if m.kind == "command"]
    n = len(list_exceptions(wildcards, STUDY_IMAGES.kept(wildcards)))
    return int(10 + max([3, *each]) * n) * attempt


def get_decide_megabytes(wildcards, input):
    """The memory of a decision: 300 MB, plus thirty times the two tables that are kept in memory."""
    return 300 + 30 * get_held_megabytes(input)


def get_decide_minutes(wildcards, input):
    """The time of a decision: half an hour, plus a minute for each megabyte of tables (10 000 images: about ten)."""
    return 30 + get_held_megabytes(input)


def get_held_megabytes(input):
    """Size of the tables that a decision keeps in memory."""
    held = sum(
        Path(table).stat().st_size
        for table in (input.metrics, input.agreement)
        if Path(table).is_file()
    )
    return held // 10**6


def get_participants(wildcards):
    """The table of participants, if the dataset has one, with sites and groups; its content counts."""
    table = Path(STUDY.bids_dir or ".") / "participants.tsv"
    return [str(table)] if STUDY.bids_dir and table.is_file() and not IS_DEMO else []


def label_figures(stage):
    """The labels of a figure in Snakemake's report."""
    return lambda wildcards: {
        "figure": figure_title(wildcards.figure),
        "stage": stage,
    }
