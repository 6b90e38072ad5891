"""An image whose process the system kills has no result: it decides nothing and is tried again."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from made_study import CHUNK, save_nifti, study_folder, study_image, write_chunk, write_index

from spineseg.errors import MachineError
from spineseg.memory_limit import ended_for_memory
from spineseg.methods.declared import DeclaredMethod
from spineseg.study.worker import Segmenter
from spineseg.studyfolder.decisions import Exceptions, write_exceptions
from spineseg.studyfolder.killed import note_killed, read_note
from spineseg.studyfolder.manifests import ManifestEntry
from spineseg.studyfolder.sidecars import KILLED, is_killed

BLOCK = np.pad(np.ones((8, 8, 10)), ((16, 16), (18, 18), (0, 0)))


@pytest.fixture(params=["kill -KILL $PPID", "kill -KILL $$"], ids=["the process", "its program"])
def killing(request, tmp_path):
    """A study of two images, and a method that is killed on the first image as long as a file exists."""
    mask = save_nifti(tmp_path / "mask.nii.gz", BLOCK)
    paths = [str(save_nifti(tmp_path / f"sub-0{n}_T2w.nii.gz", 100 + 50 * BLOCK, dtype=np.int16)) for n in (1, 2)]
    images = [study_image(f"0{n}", path=path) for n, path in enumerate(paths, start=1)]
    program, short = tmp_path / "program.sh", tmp_path / "short"
    program.write_text(
        f'case "$1" in sub-01*) if [ -e {short} ]; then {request.param}; sleep 60; fi;; esac; cp {mask} "$2"\n'
    )
    short.touch()
    method = DeclaredMethod("program", "command", f"exec sh {program} {{image_id}} {{mask}}")
    return Segmenter(write_index(study_folder(tmp_path), images), method), images, short


# row: the process of an image, or its program, is killed, as when memory runs out | the other images of its chunk are
#   finished, and the job is tried again with more memory; if that does not help, the image has failed for this run,
#   is in no comparison, and is tried again by the next run
def test_a_killed_process_leaves_its_image_for_the_next_run(killing):
    segmenter, images, short = killing
    with pytest.raises(MachineError, match="sub-01_T2w: the process ended twice as when memory runs out"):
        segmenter.run(images)
    assert segmenter.folder.mask(images[1], "program").is_file()
    first, second = segmenter.run(images)[1]  # of the next job; nothing else can tell that memory never suffices
    assert is_killed(first)
    assert first.message.startswith(f"{KILLED} (SIGKILL)")
    assert second.status == "ok"
    short.unlink()
    assert [entry.status for entry in segmenter.run(images)[1]] == ["ok", "ok"]


def test_a_crash_under_a_memory_limit_counts_as_out_of_memory(monkeypatch):
    codes = [-signal.SIGSEGV, -signal.SIGABRT, 128 + signal.SIGABRT, -signal.SIGKILL, 1]
    assert [ended_for_memory(code) for code in codes] == ["", "", "", "SIGKILL", ""]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, 2**30))
    assert [ended_for_memory(code) for code in codes] == ["SIGSEGV", "SIGABRT", "SIGABRT", "SIGKILL", ""]


@pytest.mark.parametrize("in_exceptions", [False, True])
def test_a_killed_image_is_reported_once_per_run(tmp_path, in_exceptions):
    folder, note = study_folder(tmp_path), tmp_path / "note.json"

    def write(message: str) -> Path:
        entries = (ManifestEntry("sub-01_T2w", "failed", "propseg", message),)
        if not in_exceptions:
            return write_chunk(folder, "propseg", entries, CHUNK)
        write_exceptions(folder, Exceptions("deepseg", entries))
        return folder.exceptions

    path = write(f"no cord, but not: {KILLED}")
    note_killed(folder, note)
    assert not note.exists()
    write(f"{KILLED} (SIGKILL)")
    note_killed(folder, note)
    first = read_note(note)
    assert list(first) == [folder.relative(path)]
    note_killed(folder, note)
    again = read_note(note)
    assert again.keys() == first.keys()
    assert again != first
    write("no cord")
    note_killed(folder, note)
    assert read_note(note) == again  # a finished job is not repeated
    note.write_text("[]")
    assert read_note(note) == {}
