"""Each mistake in a configuration is one line that names the key."""

from pathlib import Path

import pytest
import yaml

from spineseg.errors import InputError
from spineseg.study.configuration import check_sources, complete_configuration, load_schema, read_configuration
from spineseg.study.index import DEFAULT_SUFFIXES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bids(tmp_path):
    for subject in ("01", "02"):
        folder = tmp_path / "bids" / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{subject}_T2w.nii.gz").touch()
    return str(tmp_path / "bids")


def test_the_shipped_configuration_is_complete_and_holds_the_defaults():
    shipped = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    assert shipped == complete_configuration({"dataset": "demo"})
    assert list(shipped) == list(load_schema()["properties"])


def test_every_key_is_described_in_the_readme():
    text = (ROOT / "config" / "README.md").read_text()
    assert not [key for key in load_schema()["properties"] if f"`{key}`" not in text]


def test_defaults_agree_with_the_index():
    assert tuple(complete_configuration({"dataset": "x"})["contrasts"]) == DEFAULT_SUFFIXES


def test_the_demo_takes_the_place_of_a_missing_source_only():
    assert complete_configuration({"dataset": "x"}, demo_dir="d")["bids_dir"] == "d"
    assert complete_configuration({"dataset": "x", "bids_dir": "b"}, demo_dir="d")["bids_dir"] == "b"
    assert complete_configuration({"dataset": "x", "images": "t"}, demo_dir="d")["bids_dir"] is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metods": ["propseg"]}, r"config key 'metods': no such key; did you mean 'methods'\?"),
        ({"threads": 4}, "config key 'threads': no such key"),
        ({"dataset": 2024}, "config key 'dataset': expected a name"),
        ({"dataset": "a/b"}, "config key 'dataset': expected a name"),
        ({"bids_dir": "nowhere"}, "config key 'bids_dir': expected a folder, found none at nowhere"),
        ({"bids_dir": ["a"]}, "config key 'bids_dir': expected a folder, or null"),
        ({"images": "x.tsv"}, "config keys 'bids_dir' and 'images': expected one of them, found both"),
        ({"bids_dir": None, "images": "x.tsv"}, "config key 'images': expected a table, found none at x.tsv"),
        ({"bids_dir": None}, "expected one of them, found neither"),
        ({"subjects": [1]}, r"config key 'subjects': expected all, or a list"),
        ({"subjects": ["03"]}, "config key 'subjects': no subject '03'"),
        ({"subjects": []}, "config key 'subjects'"),
        ({"excluded": "gone.tsv"}, "config key 'excluded': expected a file, found none at gone.tsv"),
        ({"excluded": 3}, "config key 'excluded': expected a list, a mapping"),
        ({"contrasts": ["T2w", "T9w"]}, r"config key 'contrasts': unknown contrast 'T9w'"),
        ({"contrasts": ["t1"]}, r"unknown contrast 't1'; did you mean 'T1w'"),
        ({"contrasts": {"T2w": "t3"}}, r"config key 'contrasts.T2w': unknown contrast 't3'"),
        ({"contrasts": "T2w"}, "config key 'contrasts': expected a list"),
        ({"references": "gone"}, "config key 'references': expected a folder"),
        (
            {"methods": ["propsg"]},
            r"config key 'methods.0': 'propsg' is none of propseg, deepseg; did you mean 'propseg'",
        ),
        ({"methods": []}, "config key 'methods': expected a list"),
        ({"pilot": {"subjets": "all"}}, r"config key 'pilot.subjets': no such key; did you mean 'subjects'"),
        ({"pilot": {"subjects": {"n": 0}}}, "config key 'pilot.subjects': expected all, a list"),
        ({"pilot": {"subjects": ["9"]}}, "config key 'pilot.subjects': no subject '9'"),
        ({"pilot": None}, "config key 'pilot': expected"),
        ({"decision": 3}, "config key 'decision': expected"),
        ({"decision": {"max_fial": 0.3}}, "config key decision.max_fial: no such key"),
        ({"decision": {"max_fail": "much"}}, "config key decision.max_fail: expected a value like 0.2"),
        (
            {"methods": ["propseg"], "decision": {"prefer": "deepseg"}},
            "config key 'decision.prefer': expected one of methods",
        ),
        ({"override": {"method": "propseg"}}, "config key 'override': expected null, or {method, reason, by}"),
        (
            {"methods": ["propseg"], "override": {"method": "deepseg", "reason": "r", "by": "me"}},
            "config key 'override.method': expected one of methods",
        ),
    ],
)
def test_mistakes_name_the_key_in_one_line(bids, keys, message):
    with pytest.raises(InputError, match=message) as caught:
        check_sources(complete_configuration({"dataset": "x", "bids_dir": bids} | keys))
    assert "\n" not in str(caught.value)


def test_a_dataset_name_is_needed():
    with pytest.raises(InputError, match="config key 'dataset' is missing"):
        complete_configuration({})


def test_a_good_configuration_passes(bids):
    check_sources(
        complete_configuration({"dataset": "x", "bids_dir": bids, "subjects": ["sub-01"], "references": None})
    )


def test_the_input_is_not_changed(bids):
    config = {"dataset": "x", "bids_dir": bids, "pilot": {}}
    complete = complete_configuration(config)
    assert config == {"dataset": "x", "bids_dir": bids, "pilot": {}}
    assert complete["pilot"] == {"subjects": "all"}


def test_files_that_are_no_configuration(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("dataset: [")
    with pytest.raises(InputError, match="not a YAML file"):
        read_configuration(path)
    path.write_text("just text")
    with pytest.raises(InputError, match="expected keys and values"):
        read_configuration(path)
    with pytest.raises(InputError, match="no such configuration"):
        read_configuration(tmp_path / "gone.yaml")
