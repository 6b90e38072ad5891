"""Each mistake in a configuration is one line that names the key."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.measures import PlausibleLimits
from spineseg.study.choices import PilotChoice, find_exceptions
from spineseg.study.configuration import (
    DEFAULT_SUFFIXES,
    complete_document,
    load_schema,
    make_configuration,
    read_configuration,
)
from spineseg.study.index import check_before_jobs
from spineseg.study.sources import check_sources
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.locks import KeptMethods

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
    assert shipped == complete_document({"dataset": "demo"})
    assert list(shipped) == list(load_schema()["properties"])


def test_every_key_is_described_in_the_readme():
    text = (ROOT / "config" / "README.md").read_text()
    assert not [key for key in load_schema()["properties"] if f"`{key}`" not in text]


def test_defaults_agree_with_the_index():
    assert tuple(complete_document({"dataset": "x"})["contrasts"]) == DEFAULT_SUFFIXES
    assert make_configuration({"dataset": "x"}).suffixes >= set(DEFAULT_SUFFIXES)


def test_the_demo_is_used_only_without_a_source():
    assert make_configuration({"dataset": "x"}, demo_dir="d").bids_dir == "d"
    assert make_configuration({"dataset": "x", "bids_dir": "b"}, demo_dir="d").bids_dir == "b"
    assert make_configuration({"dataset": "x", "images": "t"}, demo_dir="d").bids_dir is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metods": ["propseg"]}, r"config key 'metods': no such key; did you mean 'methods'\?"),
        ({"threads": 4}, "config key 'threads': no such key"),
        ({"columns": ["age", "csa_mm2"]}, r"config key 'columns': csa\.tsv already has a column 'csa_mm2'; rename"),
        ({"columns": ["session"]}, "config key 'columns': .*'session'"),
        ({"dataset": 2024}, "config key 'dataset': expected a name"),
        ({"dataset": "a/b"}, "config key 'dataset': expected a name"),
        ({"bids_dir": "nowhere"}, "config key 'bids_dir': expected a folder, found none at nowhere"),
        ({"bids_dir": ["a"]}, "config key 'bids_dir': expected a folder, or null"),
        ({"images": "x.tsv"}, "config keys 'bids_dir' and 'images': expected one of them, found both"),
        ({"bids_dir": None, "images": "x.tsv"}, "config key 'images': expected a table, found none at x.tsv"),
        ({"bids_dir": None}, "expected one of them, found neither"),
        ({"subjects": [1]}, r"config key 'subjects': expected all, or a list"),
        ({"subjects": ["03"]}, "config key 'subjects': the dataset has no such subject '03'; it has 01"),
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
        (
            {"pilot": {"subjects": ["9"]}},
            "config key 'pilot.subjects': the dataset has no such subject '9'; it has 01, 02",
        ),
        ({"pilot": None}, "config key 'pilot': expected"),
        ({"decision": 3}, "config key 'decision': expected"),
        ({"decision": {"max_fial": 0.3}}, "config key 'decision.max_fial': no such key; did you mean 'max_fail'"),
        (
            {"decision": {"max_fail": "much"}},
            "config key 'decision.max_fail': expected a number from 0 to 1; found 'much'",
        ),
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
        check_before_jobs(make_configuration({"dataset": "x", "bids_dir": bids} | keys))
    assert "\n" not in str(caught.value)


def test_a_dataset_name_is_needed():
    with pytest.raises(InputError, match="config key 'dataset' is missing"):
        make_configuration({})


def test_a_good_configuration_passes(bids):
    check_sources(make_configuration({"dataset": "x", "bids_dir": bids, "subjects": ["sub-01"], "references": None}))


def test_the_input_is_not_changed(bids):
    config = {"dataset": "x", "bids_dir": bids, "pilot": {}}
    complete = make_configuration(config).document
    assert config == {"dataset": "x", "bids_dir": bids, "pilot": {}}
    assert complete["pilot"] == {"subjects": "all"}


def test_files_that_are_not_a_configuration(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("dataset: [")
    with pytest.raises(InputError, match="not a YAML file"):
        read_configuration(path)
    path.write_bytes(b"dataset: \xff")
    with pytest.raises(InputError, match="line 1: expected text in UTF-8, found the byte 0xff"):
        read_configuration(path)
    with pytest.raises(InputError, match="expected a YAML file, found a folder"):
        read_configuration(tmp_path)
    path.write_text("just text")
    with pytest.raises(InputError, match="expected keys and values"):
        read_configuration(path)
    with pytest.raises(InputError, match="expected a YAML file, found no file to read"):
        read_configuration(tmp_path / "gone.yaml")


LONG = "a" * 5000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('dataset: "x\\n"', "config key 'dataset': expected a name"),
        ('dataset: "x\\r"', "config key 'dataset': expected a name"),
        (f"dataset: {LONG}", "config key 'dataset': expected a name"),
        (
            "dataset: 2024-01-31",
            "config key 'dataset': expected text or a number, found '2024-01-31'; put it in quotes",
        ),
        ("dataset: .nan", "config key 'dataset': expected a finite number, found nan"),
        ("dataset: [x]", "config key 'dataset': expected a name"),
        ("dataset: null", "config key 'dataset': expected a name"),
        ("{dataset: x, 3: y}", "configuration: expected names as keys, found 3; put it in quotes"),
        ("{dataset: x, excluded: {1: motion}}", "config key 'excluded': expected names as keys, found 1"),
        ("{dataset: x, excluded: {2024-01-31: motion}}", "config key 'excluded': expected names as keys"),
        ("{dataset: x, subjects: [2024-01-31]}", "config key 'subjects.0': expected text or a number"),
        ('{dataset: x, subjects: ["01\\n"]}', "config key 'subjects': expected all, or a list"),
        ("{dataset: x, subjects: [01, 01]}", "config key 'subjects'"),
        ("{dataset: x, bids_dir: !!binary aGk=}", "config key 'bids_dir': expected text or a number"),
        ("{dataset: x, bids_dir: !!set {a}}", "config key 'bids_dir': expected"),
        ("{dataset: x, bids_dir: ''}", "config key 'bids_dir': expected a folder, or null"),
        ("{dataset: x, pilot: {subjects: {n: 2.0}}}", "config key 'pilot.subjects': expected all, a list"),
        ("{dataset: x, pilot: {subjects: {n: .inf}}}", "config key 'pilot.subjects.n': expected a finite number"),
        ("{dataset: x, pilot: {subjects: {n: 2, seed: -1}}}", "config key 'pilot.subjects'"),
        ("{dataset: x, pilot: {subjects: {n: true}}}", "config key 'pilot.subjects'"),
        (f"{{dataset: x, pilot: {{subjects: {{n: {'9' * 4000}}}}}}}", "config key 'pilot.subjects'"),
        (f"{{dataset: x, pilot: {{subjects: {{n: {'9' * 5000}}}}}}}", "not a YAML file"),
        ("{dataset: x, decision: {seed: 1.0}}", "config key 'decision.seed': expected a whole number"),
        ("{dataset: x, decision: {max_fail: .nan}}", "config key 'decision.max_fail': expected a finite number"),
        ("{dataset: x, decision: {max_fail: 1.0e+400}}", "config key 'decision.max_fail': expected a finite number"),
        ("{dataset: x, decision: null}", "config key 'decision': expected a mapping"),
        ("{dataset: x, plausible: {csa_mm2: [1]}}", "config key 'plausible.csa_mm2': expected [least, most]"),
        (
            "{dataset: x, plausible: {csa_mm2: [9, 1]}}",
            "config key 'plausible.csa_mm2': expected [least, most], found [9, 1]",
        ),
        ("{dataset: x, plausible: {csa_mm2: [1, 1]}}", "config key 'plausible.csa_mm2': expected [least, most]"),
        ("{dataset: x, plausible: {csa_mm2: [0, .inf]}}", "config key 'plausible.csa_mm2.1': expected a finite number"),
        ("{dataset: x, plausible: {csa_mm2: [0, big]}}", "config key 'plausible.csa_mm2.1': expected a number"),
        ("{dataset: x, plausible: {csa_mm2: [true, 3]}}", "config key 'plausible.csa_mm2.0': expected a number"),
        ("{dataset: x, plausible: {csa_mm2: [-1, 3]}}", "config key 'plausible.csa_mm2.0': expected a number from 0"),
        ("{dataset: x, plausible: {diameter_mm: 3}}", "config key 'plausible.diameter_mm': expected [least, most]"),
        (
            "{dataset: x, plausible: {eccentricity: 2}}",
            "config key 'plausible.eccentricity': expected a number from 0 to 1",
        ),
        ("{dataset: x, plausible: {solidity: .nan}}", "config key 'plausible.solidity': expected a finite number"),
        ("{dataset: x, plausible: {csa: [1, 2]}}", "config key 'plausible.csa': no such key; did you mean 'csa_mm2'"),
        ("{dataset: x, plausible: off}", "config key 'plausible': expected null, or a mapping"),
        ('{dataset: x, methods: [{name: "a\\n", method: propseg}]}', "config key 'methods.0.name': expected a name"),
        (
            f"{{dataset: x, methods: [{{name: {LONG}, method: propseg}}]}}",
            "config key 'methods.0.name': expected a name",
        ),
        (f"{{dataset: x, methods: [{LONG}]}}", "config key 'methods.0'"),
        ("{dataset: x, methods: [{name: measures, method: propseg}]}", "'measures' means something else"),
        (
            "{dataset: x, methods: [{name: a, method: propseg, options: {alpha: .inf}}]}",
            "options.alpha': expected a finite",
        ),
        (
            "{dataset: x, methods: [{name: a, command: 'a {image} {mask}', timeout: .inf}]}",
            "timeout': expected a finite",
        ),
        (
            "{dataset: x, methods: [{name: a, command: 'a {image} {mask}', timeout: 1.0e+9}]}",
            "timeout': expected minutes",
        ),
        (
            "{dataset: x, exceptions: {sub-1_T2w: propseg}}",
            "config key 'exceptions.sub-1_T2w': expected {method, reason, by}",
        ),
        (
            "{dataset: x, exceptions: {a: {method: b, reason: c, by: d}}}",
            "'exceptions.a.method': expected one of methods",
        ),
        ("{dataset: x, accept_changes: {to: abc, reason: r, by: m}}", "config key 'accept_changes': expected null"),
        ("&a {dataset: x, excluded: *a}", "found one that holds itself"),
        ('{dataset: x, "a\\nb": 1}', "no such key"),
        ("dataset: x\nbids_dir: a\nimages: b", "expected one of them, found both"),
    ],
)
def test_yaml_values_outside_json_are_one_line(tmp_path, capsys, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_configuration(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000 + len(str(path))
    assert main(["index", "-config", str(path), "-results", str(tmp_path / "r")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "r").exists()


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "files", "command", "n", "seed", "csa_mm2", "method", "reason", "by"]),
                      inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(list(load_schema()["properties"])), yaml_values, max_size=4))
def test_any_configuration_is_typed_or_refused_in_one_line(keys):
    try:
        config = make_configuration({"dataset": "x"} | keys)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        assert make_configuration(config.document) == config
    assert "\n" not in refused


def test_limits_of_plausible_are_typed():
    assert make_configuration({"dataset": "x"}).plausible == PlausibleLimits()
    assert make_configuration({"dataset": "x", "plausible": None}).plausible is None
    mice = make_configuration({"dataset": "x", "plausible": {"csa_mm2": [1, 9], "solidity": 0}}).plausible
    assert mice == PlausibleLimits(csa_mm2=(1.0, 9.0), solidity=0)


def test_the_typed_configuration(bids):
    config = make_configuration(
        {
            "dataset": "x",
            "bids_dir": bids,
            "subjects": ["sub-01", "02"],
            "pilot": {"subjects": {"n": 3}},
            "exceptions": {"a": {"method": "propseg", "reason": "r", "by": "me"}},
        }
    )
    assert config.subjects == ("01", "02")
    assert config.pilot == PilotChoice(n=3, seed=1)
    image = StudyImage("a", "01", contrast="t2")
    assert list(find_exceptions(config, KeptMethods("deepseg"), [image])) == ["a"]
    assert find_exceptions(config, KeptMethods("propseg"), [image]) == {}
    assert list(find_exceptions(config, KeptMethods("propseg", {"t2": "deepseg"}), [image])) == ["a"]
    assert make_configuration({"dataset": "x", "pilot": {"subjects": ["sub-2"]}}).pilot == PilotChoice(("2",))


def test_a_document_of_json_reads_back(tmp_path, bids):
    config = make_configuration({"dataset": "x", "bids_dir": bids})
    (tmp_path / "study.json").write_text(json.dumps(config.document))
    assert read_configuration(tmp_path / "study.json") == config
