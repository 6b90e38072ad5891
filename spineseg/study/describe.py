"""Say in the results folder itself what it is: a BIDS derivative with a README."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from spineseg import __version__
from spineseg.writing import write_json, write_text

_README = """\
Spinal cord segmentation of the dataset {dataset}

Made by spineseg {version} from {source}: {included} of {found} images of {people} participants.
images.tsv lists every image, and the reason where one is not part of the study.

report.html                  start here: the decision and its evidence on one page
qc/index.html                every image, slice by slice, by every method
decision.json, decision.md   which method to keep, why, how sure, and what would change it
derivatives/labels/          the kept masks, <source>_label-SC_seg.nii.gz; correct them in place, they are
                             not overwritten once they were changed
tables/                      metrics.tsv, agreement.tsv, slices.tsv.gz, kept.tsv
pilot/tables/                the same for the pilot's participants: what the decision rests on
study/                       the same for a study by the decided method alone (snakemake study)
sub-*/                       every method's mask, <source>_desc-<method>_label-SC_seg.nii.gz, with a JSON file
                             that says how it was made
chunks/                      what each job did; snakemake goes on from here
study.json                   the configuration with its defaults
"""


def describe_results(results: str | Path, config: dict[str, Any], rows: list[dict[str, str]]) -> None:
    """Write ``dataset_description.json`` and ``README`` of a dataset's results.

    Parameters
    ----------
    results : path
    config : dict
        Complete study configuration.
    rows : list of dict
        The rows of images.tsv.
    """
    results = Path(results)
    source = config["images"] or config["bids_dir"]
    included = [row for row in rows if row["included"] == "true"]
    description = {
        "Name": f"{config['dataset']}: spinal cord segmentation",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "spineseg", "Version": __version__}],
        "SourceDatasets": [{"URL": source}],
    }
    write_json(results / "dataset_description.json", description)
    people = len({row["subject"] for row in included})
    text = _README.format(
        dataset=config["dataset"],
        version=__version__,
        source=source,
        included=len(included),
        found=len(rows),
        people=people,
    )
    write_text(results / "README", text)


def summarise_index(rows: list[dict[str, str]]) -> str:
    """Return a few lines for people: how many images are in, and how many are out for which reason."""
    included = [row for row in rows if row["included"] == "true"]
    people = len({row["subject"] for row in included})
    contrasts = Counter(row["contrast"] for row in included)
    shown = ", ".join(f"{count} {name}" for name, count in sorted(contrasts.items()))
    pilot = sum(row["pilot"] == "true" for row in included)
    lines = [f"{len(included)} of {len(rows)} images of {people} participants ({shown}); {pilot} in the pilot"]
    reasons = Counter(row["reason"] for row in rows if row["included"] != "true")
    return "\n".join(lines + [f"not included, {count}: {reason}" for reason, count in reasons.most_common()])
