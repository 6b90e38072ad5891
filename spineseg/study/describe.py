"""Say in the results folder itself what it is: a BIDS derivative with a README."""

from __future__ import annotations

from collections.abc import Sequence

from spineseg.study.configuration import StudyConfig
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.version import find_version
from spineseg.writing import write_json, write_text

_README = """\
Spinal cord segmentation of the dataset {dataset}

Made by spineseg {version} from {source}: {included} of {found} images of {people} participants.
images.tsv lists every image, and the reason where one is not part of the study.

report.html                  start here: the decision and its evidence on one page
qc/index.html                every image, slice by slice, by every method
plan.json                    what was planned of the decision before the pilot, with its hash
decision.json, decision.md   which method to keep, why, how sure, and what would change it
derivatives/labels/          the kept masks, <source>_label-SC_seg.nii.gz; correct them in place, they are
                             not overwritten once they were changed
tables/                      metrics.tsv, agreement.tsv, slices.tsv.gz, kept.tsv, timings.tsv
pilot/tables/                the same for the pilot's participants: what the decision rests on
study/                       the same for a study by the decided method alone (snakemake study)
sub-*/                       every method's mask, <source>_desc-<method>_label-SC_seg.nii.gz, with a JSON file
                             that says how it was made
chunks/                      what each job did; snakemake goes on from here
study.json                   the configuration with its defaults
"""


def describe_results(folder: StudyFolder, config: StudyConfig, images: Sequence[StudyImage]) -> None:
    """Write ``dataset_description.json`` and ``README`` of a dataset's results.

    Parameters
    ----------
    folder : StudyFolder
    config : StudyConfig
    images : sequence of StudyImage
    """
    included = [image for image in images if image.included]
    description = {
        "Name": f"{config.dataset}: spinal cord segmentation",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "spineseg", "Version": find_version()}],
        "SourceDatasets": [{"URL": config.source}],
    }
    write_json(folder.description, description)
    people = len({image.subject for image in included})
    text = _README.format(
        dataset=config.dataset,
        version=find_version(),
        source=config.source,
        included=len(included),
        found=len(images),
        people=people,
    )
    write_text(folder.readme, text)
