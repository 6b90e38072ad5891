"""A study that is killed, short of disk and short of memory ends with the same bytes; benchmarks/ has the long form."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from chaos_study import FAST, run_chaos


# row: a study that is killed, short of disk, short of memory | ends with the same bytes
def test_a_disturbed_study_gives_the_same_bytes(tmp_path):
    said: list[str] = []
    assert run_chaos(tmp_path, 2, 2, 3, FAST, said.append) == []
    assert " differ" in said[-1]
    assert not said[-1].startswith("0 files")
