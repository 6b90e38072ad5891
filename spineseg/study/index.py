"""List the images of a study, each included or with the reason for leaving it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from spineseg.bids import DATATYPES
from spineseg.contrasts import SUFFIX_CONTRAST
from spineseg.decision.params import DecisionParams
from spineseg.errors import InputError
from spineseg.file_digests import FileDigests, absent_content, stamp_of
from spineseg.methods.declared import MANUAL, check_declared
from spineseg.provenance import sha256_json
from spineseg.spelling import closest, name_some
from spineseg.study.choices import USE
from spineseg.study.chunks import assign_chunks, choose_pilot
from spineseg.study.configuration import StudyConfig
from spineseg.study.entries import check_entries
from spineseg.study.exclusion import Sites
from spineseg.study.participants import Participants, read_participants
from spineseg.study.sources import check_sources, find_images, list_references
from spineseg.studyfolder.decisions import Membership
from spineseg.studyfolder.forms import OTHER_EXCLUDED, OTHER_FORM, find_other_forms, form_of, group_forms
from spineseg.studyfolder.images import StudyImage, word_exclusion
from spineseg.studyfolder.layout import StudyFolder


def index_images(
    config: StudyConfig, chunk_size: int, earlier: Membership | None = None, frozen: Collection[str] | None = None
) -> tuple[list[StudyImage], Membership]:
    """List every image of a study.

    Parameters
    ----------
    config : StudyConfig
    chunk_size : int
        Most images for one job.
    earlier : Membership, optional
        Pilot and chunks of the previous index.
    frozen : collection of str, optional
        The pilot's images of a study that has started. No other image enters the pilot, and one that was excluded for a
        while comes back into it.

    Returns
    -------
    images : list of StudyImage
    membership : Membership
        Input of the next index.

    Raises
    ------
    InputError
        If nothing is left to segment, the source cannot be read, or the configuration names an image or existing masks
        that do not exist.
    """
    earlier = earlier or Membership()
    images = _select_all(config)
    config.excluded.check_matched(images, _sites(config, _participants(config)))
    check_entries(config, images)
    images = _leave_other_forms(images, config, earlier.chunks if frozen is not None else ())
    included = [image for image in images if image.included]
    if not included:
        raise InputError(describe_unused(images, config.source))
    check_declared(config.methods, images, has_started=frozen is not None)
    marked = [*config.methods, *([MANUAL] if config.manual == USE else [])]
    config.marks.check_names((image.image_id for image in images), marked, "config key 'marks'")
    known = [image.image_id for image in included]
    for name in config.exceptions:
        if name not in known:
            raise InputError(f"config key 'exceptions.{name}': the study has no such image{closest(name, known)}")
    contrasts: dict[str, set[str]] = {}
    for image in included:
        contrasts.setdefault(image.subject, set()).add(image.contrast)
    if frozen is None:
        strata = strata_of(config, contrasts)
        groups = {subject: own | strata[subject] for subject, own in contrasts.items()}
        pilot = choose_pilot(contrasts, config.pilot, earlier, groups)
        if not pilot["subjects"]:
            raise InputError("config key 'pilot.subjects': none of these subjects has an image in the study")
        chosen = {image.image_id for image in included if image.subject in pilot["subjects"]}
    else:
        pilot, chosen = dict(earlier.pilot), set(frozen)
    images = [replace(image, pilot=image.included and image.image_id in chosen) for image in images]
    by_contrast = config.decision.by == "contrast"
    members = [(i.image_id, i.pilot, i.contrast if by_contrast else "") for i in images if i.included]
    chunks = assign_chunks(members, chunk_size, earlier.chunks)
    return images, Membership(chunks, pilot if "seed" in pilot else {})


def _leave_other_forms(images: list[StudyImage], config: StudyConfig, in_study: Collection[str]) -> list[StudyImage]:
    """Leave out images if another form of the same acquisition is used (config key ``forms``).

    A table of images itself decides which images the study has.
    """
    if config.forms is None or config.images:
        return images
    others = find_other_forms((image for image in images if image.included), config.forms, in_study)
    for group in group_forms(image for image in images if image.included or image.exclusion):
        if not any(image.included for image in group):  # all forms are excluded and count as one excluded image
            left = find_other_forms(group, config.forms, in_study)
            used = next(image.image_id for image in group if image.image_id not in left)
            reasons = {image.image_id: image.reason for image in group}
            others |= {name: f"{OTHER_EXCLUDED}: {used}; {reasons[name]}" for name in left}
    return [
        replace(image, included=False, reason=others[image.image_id]) if image.image_id in others else image
        for image in images
    ]


def strata_of(config: StudyConfig, subjects: Iterable[str]) -> dict[str, set[str]]:
    """Return subject to its values of the columns whose values the pilot must have; unknown values do not count.

    Raises
    ------
    InputError
        If participants.tsv has no such column.
    """
    people = _participants(config)
    for column in config.pilot.strata:
        people.check_column(column, "config key 'pilot.strata'")
    return {
        subject: {f"{column} {value}" for column in config.pilot.strata if (value := cells.get(column))}
        for subject in subjects
        for cells in [people.cells.get(subject, {})]
    }


def find_pilot_gaps(config: StudyConfig, images: Sequence[StudyImage]) -> list[str]:
    """Return warnings where fewer people can be in the pilot than the configuration asks for."""
    people, asked = {image.subject for image in images if image.included}, config.pilot
    key = "warning: config key 'pilot.subjects'"
    if asked.n is not None and asked.n > len(people):
        return [f"{key}: asks for {asked.n} people, and the study has {len(people)}"]
    if absent := sorted(set(asked.subjects or ()) - people):
        return [f"{key}: the pilot is without {name_some(absent)}, who have no image in the study"]
    return []


def find_unseen_strata(config: StudyConfig, images: Sequence[StudyImage]) -> list[str]:
    """Return the values of strata that people of the study have, but nobody in the pilot."""
    included = [image for image in images if image.included]
    strata = strata_of(config, {image.subject for image in included})
    seen = {name for image in included if image.pilot for name in strata[image.subject]}
    return sorted({name for own in strata.values() for name in own} - seen)


def check_columns(config: StudyConfig) -> bool:
    """Refuse a column that participants.tsv lacks; return whether the configuration names any.

    Raises
    ------
    InputError
    """
    plan, people = config.decision, _participants(config)
    named = [(name, "config key 'columns'") for name in config.columns]
    named += [(plan.group, "config key 'decision.group'")] if plan.group else []
    named += [(plan.site, "config key 'decision.site'")] if plan.site not in (None, DecisionParams.site) else []
    named += [(name, "config key 'pilot.strata'") for name in config.pilot.strata]
    for name, key in named:
        people.check_column(name, key)
    return bool(named)


def check_before_jobs(config: StudyConfig, folder: StudyFolder | None = None, *, with_images: bool = True) -> None:
    """Check before the first job that everything named in the configuration exists.

    Parameters
    ----------
    config : StudyConfig
    folder : StudyFolder, optional
        Folder of the results. A study that has started keeps its pilot, even if the configuration no longer asks for
        anybody in it.
    with_images : bool
        False if the images do not exist yet, as those of the demo.

    Raises
    ------
    InputError
        In one line that names the key, or the row of the table.
    """
    check_declared(config.methods, None)
    if with_images:
        check_sources(config)
        is_asked = check_columns(config)
        frozen = () if folder and folder.lock.is_file() else None
        images, _ = index_images(config, 1, frozen=frozen)  # checks the keys that name images
        people = {image.subject for image in images if image.included}
        listed = _participants(config)
        if is_asked and not people & listed.cells.keys():
            one = min(people)
            raise InputError(
                f"{listed.path}: has no row for anybody in the study, such as sub-{one}{closest(one, listed.cells)};"
                " participant_id is the name of the folder, with or without sub-"
            )


def find_idle_exclusions(config: StudyConfig, images: Sequence[StudyImage]) -> list[str]:
    """Return a line for each exclusion of a contrast whose subject or image exists, but not in that contrast.

    Such an entry leaves out nothing; it is reported, because the list may be meant for another contrast. One more line
    names the entries that match nothing, if that is not an error.
    """
    sites, lines = _sites(config, _participants(config)), []
    for one in config.excluded.entries:
        fitting = [image for image in images if one.contrast and one.fits(image, sites)]
        if fitting and not any(map(one.concerns, fitting)):
            lines.append(
                f"{one.where}: {one.entry!r} leaves out nothing: none of its {len(fitting)} images is {one.contrast}"
            )
    if config.excluded.may_be_unmatched and (found := config.excluded.find_unmatched(images, sites)):
        named = name_some([one.entry for one in found])
        fit = "1 entry fits" if len(found) == 1 else f"{len(found)} entries fit"
        lines.append(f"{config.excluded.files[0]}: {fit} nothing here (excluded.unmatched: ignore): {named}")
        if alike := config.excluded.find_misspelt(images, sites):
            lines.append(
                f"warning: {config.excluded.files[0]}: these exclude nothing, because upper and lower case differ:"
                f" {name_some(alike)}"
            )
    return lines


def find_unlisted_people(config: StudyConfig, images: Sequence[StudyImage]) -> list[str]:
    """Name the people of the study who have no row in participants.tsv, if the configuration uses its columns."""
    plan, people = config.decision, _participants(config)
    if not (config.columns or config.pilot.strata or plan.group or config.subject_query) or not people.cells:
        return []
    asked = {image.subject for image in images if image.included or config.subject_query}
    unlisted = sorted(asked - people.cells.keys())
    return [f"{people.path}: has no row for {name_some(unlisted)}, so nothing is known about them"] if unlisted else []


def source_files(config: StudyConfig, images: Sequence[StudyImage]) -> list[str]:
    """Return every file on whose content a study's results depend."""
    found = [config.images] if config.images else []
    found += [*config.excluded.files, *config.marks.files]
    participants = _participants(config).path
    found += [str(participants)] if participants.is_file() else []
    for image in images:
        found += [path for path in (image.path, image.bval, image.reference) if path]
        if image.included:
            found += [mask for method in config.methods.values() for mask in method.find_masks(image)]
    return list(dict.fromkeys(found))


def source_fingerprint(config: StudyConfig) -> str:
    """Return a digest that changes when a file of the source is added, removed or replaced, whatever its date.

    Files are not read, so that it is cheap enough for every start of a study. The index then checks whether their
    content differs.
    """
    images = _select_all(config)
    listed = [(image.image_id, image.path, image.reason, image.reference_kind) for image in images]
    masks = [(one.path, one.reason) for one in list_references(config, images)]
    return sha256_json([listed, masks, [(path, stamp_of(path)) for path in source_files(config, images)]])


def digest_sources(config: StudyConfig, images: Sequence[StudyImage], earlier: FileDigests) -> list[str]:
    """Compute the checksums of the source files of included images that `earlier` does not have yet.

    Returns
    -------
    files : list of str
    """
    files = source_files(config, [image for image in images if image.included])
    for path in files:
        earlier.digest(path)
    return files


def summarise_index(images: Sequence[StudyImage]) -> str:
    """Return a few lines for people: how many images are included, and how many are left out for which reason."""
    included = [image for image in images if image.included]
    people = len({image.subject for image in included})
    contrasts = Counter(image.contrast for image in included)
    shown = ", ".join(f"{count} {name}" for name, count in sorted(contrasts.items()))
    pilot = sum(image.pilot for image in included)
    lines = [f"{len(included)} of {len(images)} images of {people} participants ({shown}); {pilot} in the pilot"]
    unseen = sorted(set(contrasts) - {image.contrast for image in included if image.pilot})
    lines += [f"warning: no image of the pilot is {name}; the decision says nothing about it" for name in unseen]
    reasons = Counter(
        next((words for words in (OTHER_FORM, OTHER_EXCLUDED) if image.reason.startswith(words)), image.reason)
        for image in images
        if not image.included
    )
    lines += [f"not included, {count}: {reason}" for reason, count in reasons.most_common()]
    lines += [
        f"warning: not all participants with several forms of {contrast} images have the same in the study ("
        f"{', '.join(names)}), which may shift areas: the config key 'forms' says which one is used"
        for contrast, names in _mixed_forms(images)
    ]
    absent = Counter(absent_content(image.reference) for image in included if image.reference)
    kinds = Counter((image.reference_kind, image.reference_use) for image in included if image.reference)
    for (kind, use), count in kinds.most_common():
        words = "compared with, not counted as truth" if use == "agreement" else "taken as the truth"
        hint = "; nothing says who drew them: if a program did, leave unknown out of references.kinds"
        lines.append(f"references, {count} {kind}: {words}{hint if kind == 'unknown' and use == 'truth' else ''}")
    return "\n".join(lines + [f"references not used, {count}: {why}" for why, count in absent.most_common() if why])


def _mixed_forms(images: Sequence[StudyImage]) -> list[tuple[str, list[str]]]:
    """Return contrast and an image of each form, where people with the same forms differ in the form that is used."""
    used: dict[tuple[str, frozenset[str]], dict[str, str]] = {}
    for group in group_forms(i for i in images if i.included or i.reason.startswith(OTHER_FORM)):
        forms = {image.image_id: form_of(image.stem) for image in group}
        own = used.setdefault((group[0].contrast, frozenset(forms.values())), {})
        for image in group:
            if image.included:
                own.setdefault(forms[image.image_id], image.image_id)
    return [(contrast, sorted(names.values())) for (contrast, forms), names in used.items() if len(names) > 1]


def _participants(config: StudyConfig) -> Participants:
    """Return the participants of the dataset; empty for a table of images."""
    return read_participants(config.bids_dir) if config.bids_dir else Participants(Path("participants.tsv"))


def _sites(config: StudyConfig, people: Participants) -> Sites:
    """Return the sources of a subject's site."""
    return Sites(people.sites(), config.excluded.prefixes)


def _select_all(config: StudyConfig) -> list[StudyImage]:
    """Return every image of the source, each included or with the reason for leaving it out."""
    people = _participants(config)
    asked = config.subjects
    if config.subject_query:
        asked = tuple(people.query(config.subject_query, "config key 'subjects.participants'"))
    sites = _sites(config, people)
    return [_select(image, config, asked, sites) for image in find_images(config)]


def _select(image: StudyImage, config: StudyConfig, asked: Collection[str] | None, sites: Sites) -> StudyImage:
    """Set whether an image is included, or why not, and its contrast from the configuration."""
    contrast = config.contrasts.get(image.image_id, config.contrasts.get(image.suffix, image.contrast))
    image = replace(image, contrast=contrast)
    reason = image.reason or _reason_against(image, config, asked, sites)
    return replace(image, included=not reason, reason=reason)


def _reason_against(image: StudyImage, config: StudyConfig, asked: Collection[str] | None, sites: Sites) -> str:
    """Return why an image that could be read is not part of the study; empty if it is."""
    if config.images:  # a table itself decides which images the study has, so any suffix of a requested contrast counts
        shown = {config.contrasts.get(suffix, SUFFIX_CONTRAST.get(suffix)) for suffix in config.suffixes}
        wanted = image.contrast in shown
    else:
        wanted = image.suffix in config.suffixes
    if asked is not None and image.subject not in asked:
        return "subject not asked for (config key subjects)"
    if not image.contrast:
        return f"no contrast is known for suffix {image.suffix}"
    if not wanted:
        return "contrast not asked for (config key contrasts)"
    if why := config.excluded.reason_against(image, sites):
        return why
    if why := config.marks.artefacts.get(image.image_id, ""):
        return word_exclusion(why)
    return ""


def describe_unused(images: Sequence[StudyImage], source: object) -> str:
    """Return one line that says why no image of a dataset is included."""
    if not images:
        return f"{source}: found no NIfTI image in the subjects' folders {', '.join(DATATYPES)}"
    most, _ = Counter(image.reason for image in images).most_common(1)[0]
    first = next(image.path for image in images if image.reason == most)
    return f"{source}: none of its {len(images)} images is part of the study; most often: {most}, such as {first}"
