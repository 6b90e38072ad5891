"""A study keeps one method, code, weights and parameters; each change is accepted separately."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from made_study import study_folder, study_image, write_chunk, write_decision, write_index

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.methods.declared import DeclaredMethod
from spineseg.study.configuration import make_configuration
from spineseg.study.index import index_images
from spineseg.study.lock import check_study, find_frozen_pilot, lock_study, pilot_made_by
from spineseg.studyfolder.decisions import find_membership, write_membership
from spineseg.studyfolder.frozen import find_replaced_pilot
from spineseg.studyfolder.images import write_images
from spineseg.studyfolder.locks import KeptMethods, find_lock


@pytest.fixture
def folder(tmp_path):
    """A study whose pilot has run and is decided for deepseg."""
    folder = study_folder(tmp_path, "x")
    for name, method in configure().methods.items():
        write_chunk(folder, name, [], "pilot-0001", method.made_by())
    write_decision(folder, "deepseg")
    return folder


def configure(**keys):
    return make_configuration({"dataset": "x"} | keys)


@pytest.fixture
def edit(monkeypatch):
    """Change the record of code, weights or libraries, as an edited checkout or an upgrade would."""

    def change(name="deepseg", **values):
        original = DeclaredMethod.made_by
        monkeypatch.setattr(
            DeclaredMethod,
            "made_by",
            lambda self, params=None: (
                replace(original(self, params), **values) if self.name == name else original(self, params)
            ),
        )

    return change


def refusal(config, folder, *, to_study=True) -> str:
    with pytest.raises(InputError) as caught:
        check_study(config, folder, to_study=to_study)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def token_in(message: str) -> str:
    return re.search(r"accept_changes: \{to: ([0-9a-f]{8}),", message)[1]


def accept(message: str, **keys):
    return configure(accept_changes={"to": token_in(message), "reason": "better", "by": "me"}, **keys)


def test_a_study_continues_if_nothing_changed(folder):
    check_study(configure(), folder, to_study=True)
    lock = lock_study(configure(), folder, KeptMethods("deepseg"))
    assert find_lock(folder) == lock
    before = folder.lock.read_bytes()
    check_study(configure(), folder, to_study=True)
    assert lock_study(configure(), folder, KeptMethods("deepseg")) == lock
    assert folder.lock.read_bytes() == before
    assert lock.made_by["deepseg"] == configure().methods["deepseg"].made_by()
    assert len(lock.made_by["deepseg"].code) == 64


@pytest.mark.parametrize("choice", ["all", ["1", "2"], {"n": 2, "seed": 1}])
def test_a_started_study_keeps_its_pilot_whoever_joins_or_leaves(tmp_path, folder, choice):
    def index(people, **keys):
        for name in people:
            image = tmp_path / "bids" / f"sub-{name[0]}" / "anat" / f"sub-{name}_T2w.nii.gz"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(name.encode())
        config = configure(bids_dir=str(tmp_path / "bids"), pilot={"subjects": choice}, **keys)
        earlier = find_membership(folder)
        images, membership = index_images(config, 10, earlier, find_frozen_pilot(config, folder, earlier))
        write_images(folder.images, images)
        write_membership(folder, membership)
        return config, {image.image_id for image in images if image.pilot}

    folder.membership.unlink(missing_ok=True)
    config, pilot = index("12")
    assert pilot == {"sub-1_T2w", "sub-2_T2w"}
    lock_study(config, folder, KeptMethods("deepseg"))
    held = folder.lock.read_bytes()
    assert index(["3", "1_run-2"])[1] == pilot
    _, left = index([], excluded={"sub-1": "withdrew"})
    assert left == {"sub-2_T2w"}
    config, back = index([])
    assert back == pilot
    lock_study(config, folder, KeptMethods("deepseg"))
    assert folder.lock.read_bytes() == held


def test_other_code_is_refused_with_both_digests(folder, edit):
    code = lock_study(configure(), folder, KeptMethods("deepseg")).made_by["deepseg"].code
    edit(code="e" * 64, version="9.9")
    message = refusal(configure(), folder)
    assert f"code {code[:12]} (version " in message
    assert "now eeeeeeeeeeee (version 9.9)" in message
    assert str(folder.lock) in message
    refusal(configure(), folder, to_study=False)  # other targets would mix masks as well
    with pytest.raises(InputError, match="now eeeeeeeeeeee"):
        lock_study(configure(), folder, KeptMethods("deepseg"))


def test_code_of_another_method_does_not_affect_the_study(folder, edit):
    lock_study(configure(), folder, KeptMethods("deepseg"))
    edit("propseg", code="e" * 64)
    check_study(configure(), folder, to_study=True)


@pytest.mark.parametrize("values", [{"libraries": {"numpy": "9"}}, {"version": "9.9"}])
def test_libraries_and_version_alone_do_not_stop_a_study(folder, edit, values):
    lock_study(configure(), folder, KeptMethods("deepseg"))
    edit(**values)
    check_study(configure(), folder, to_study=True)
    lock_study(configure(), folder, KeptMethods("deepseg"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weights": {"deepseg_x.safetensors": "f" * 64}}, "weights deepseg_x.safetensors none, now ffffffffffff"),
        ({"parameters": {"thr": 0.4}}, "thr null, now 0.4"),
    ],
)
def test_other_weights_and_parameters_are_refused_with_both_values(folder, edit, values, words):
    lock_study(configure(), folder, KeptMethods("deepseg"))
    edit(**values)
    assert words in refusal(configure(), folder)


def test_accepting_covers_exactly_one_state(folder, edit):
    first = lock_study(configure(), folder, KeptMethods("deepseg"))
    edit(code="e" * 64)
    config = accept(refusal(configure(), folder))
    check_study(config, folder, to_study=True)
    lock = lock_study(config, folder, KeptMethods("deepseg"))
    assert lock.made_by["deepseg"].code == "e" * 64
    (accepted,) = lock.accepted
    assert (accepted.reason, accepted.by) == ("better", "me")
    assert first.made_by["deepseg"].code[:12] in accepted.changes[0]
    assert find_lock(folder) == lock
    check_study(config, folder, to_study=True)
    edit(code="f" * 64)
    later = refusal(config, folder)
    assert token_in(later) != config.accept_changes.to
    second = lock_study(accept(later), folder, KeptMethods("deepseg"))
    assert len(second.accepted) == 2


def test_another_method_is_refused_and_can_be_accepted(folder):
    lock_study(configure(), folder, KeptMethods("deepseg"))
    write_decision(folder, "propseg")
    message = refusal(configure(), folder)
    assert "method deepseg, now propseg" in message
    check_study(configure(), folder, to_study=False)  # the pilot may be decided again
    config = accept(message)
    check_study(config, folder, to_study=True)
    assert lock_study(config, folder, KeptMethods("propseg")).kept.method == "propseg"


BY_CONTRAST = KeptMethods("deepseg", {"t2": "propseg", "t2s": "deepseg"})


def with_images(folder, *contrasts):
    images = [study_image("1", f"T{n}w", contrast=contrast) for n, contrast in enumerate(contrasts)]
    write_index(folder, images)


def decide_by_contrast(folder, kept):
    write_decision(folder, kept.method, method_by_contrast=dict(kept.by_contrast))


def test_a_study_by_contrast_is_held_to_the_method_of_each(folder, edit):
    with_images(folder, "t2", "t2s")
    decide_by_contrast(folder, BY_CONTRAST)
    lock = lock_study(configure(), folder, BY_CONTRAST)
    assert lock.kept == BY_CONTRAST
    assert set(lock.made_by) == {"propseg", "deepseg"}
    assert find_lock(folder) == lock
    check_study(configure(), folder, to_study=True)
    decide_by_contrast(folder, KeptMethods("deepseg", {"t2": "deepseg", "t2s": "deepseg"}))
    assert "method of t2 propseg, now deepseg" in refusal(configure(), folder)
    decide_by_contrast(folder, BY_CONTRAST)
    edit("propseg", code="e" * 64)
    assert "propseg: code" in refusal(configure(), folder)
    config = accept(refusal(configure(), folder))
    assert lock_study(config, folder, BY_CONTRAST).made_by["propseg"].code == "e" * 64


def test_a_contrast_added_later_keeps_the_method_of_most_contrasts(folder):
    with_images(folder, "t2")
    decide_by_contrast(folder, BY_CONTRAST)
    assert set(lock_study(configure(), folder, BY_CONTRAST).made_by) == {"propseg"}
    with_images(folder, "t2", "t1")
    check_study(configure(), folder, to_study=True)
    assert set(lock_study(configure(), folder, BY_CONTRAST).made_by) == {"propseg", "deepseg"}


def test_a_contrast_without_a_kept_method_is_refused_if_the_study_has_it(folder):
    kept = KeptMethods("deepseg", {"t2": "deepseg", "dwi": None})
    with_images(folder, "t2", "dwi")
    with pytest.raises(InputError, match=r"decision\.json: keeps no method for dwi; read decision\.md, then leave"):
        lock_study(configure(), folder, kept)
    with_images(folder, "t2")
    assert lock_study(configure(), folder, kept).kept == kept


def test_a_lock_in_the_earlier_format_is_read(folder):
    lock = lock_study(configure(), folder, KeptMethods("deepseg"))
    content = json.loads(folder.lock.read_text())
    before = {"method": "deepseg", "made_by": content["made_by"]["deepseg"], "accepted": []}
    folder.lock.write_text(json.dumps(before))
    assert find_lock(folder) == replace(lock, pilot={})
    check_study(configure(), folder, to_study=True)


def test_an_image_of_the_pilot_that_was_replaced_is_named(folder, tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(b"one")
    write_index(folder, [study_image("1", path=str(path)), study_image("2", path="none")])
    lock_study(configure(), folder, KeptMethods("deepseg"))
    assert find_replaced_pilot(folder) == []
    path.write_bytes(b"another")
    assert find_replaced_pilot(folder) == ["sub-1_T2w"]
    lock_study(configure(), folder, KeptMethods("deepseg"))  # the next run still knows it
    assert find_replaced_pilot(folder) == ["sub-1_T2w"]


def test_a_method_missing_from_the_configuration_is_reported(folder):
    lock_study(configure(), folder, KeptMethods("deepseg"))
    message = refusal(configure(methods=["propseg"]), folder, to_study=False)
    assert "held to deepseg, which the config key 'methods' no longer names" in message


def test_a_pilot_by_other_code_is_refused_before_the_study(folder, edit):
    code = pilot_made_by(folder, "propseg").code
    edit("propseg", code="e" * 64)
    check_study(configure(), folder, to_study=False)  # before the study starts, the pilot may change freely
    message = refusal(configure(), folder)
    assert f"propseg: code {code[:12]} (version" in message
    assert "now eeeeeeeeeeee" in message
    config = accept(message)
    check_study(config, folder, to_study=True)
    lock = lock_study(config, folder, KeptMethods("deepseg"))
    assert lock.accepted[0].changes == ("computed again after the pilot by other code, weights or parameters",)


def test_a_damaged_manifest_of_the_pilot_does_not_stop_the_study(folder):
    folder.manifest("deepseg", "pilot-0001").write_text("{")
    assert pilot_made_by(folder, "deepseg") is None
    check_study(configure(), folder, to_study=True)


OLD = {"method": "deepseg", "facts": {"version": "0.1.0", "weights": {}}, "accepted": []}


@pytest.mark.parametrize("content", [OLD, OLD | {"made_by": {"version": "0.1.0", "parameters": {}, "weights": {}}}])
def test_a_lock_without_code_is_one_clear_line(folder, content, capsys):
    folder.lock.parent.mkdir(parents=True)
    folder.lock.write_text(json.dumps(content))
    message = refusal(configure(), folder)
    assert message.startswith(f"{folder.lock}: expected the lock of a study, with the digest of its code")
    assert "give the new run another dataset name" in message
    assert main(["lock", "-results", str(folder.root)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command(folder, capsys):
    assert main(["lock", "-results", str(folder.root)]) == 0
    made = find_lock(folder).made_by["deepseg"]
    said = f"the study uses deepseg\ndeepseg: version {made.version}, code {made.code[:12]}\n"
    assert capsys.readouterr().out == said
    write_decision(folder, None, "none")
    assert main(["lock", "-results", str(folder.root)]) == 2
    assert "keeps no method" in capsys.readouterr().err
