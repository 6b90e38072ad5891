"""A study that is killed or short of disk or memory gives the same bytes (long form: benchmarks/chaos_study.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from chaos_study import FAST, run_chaos


# row: a study that is killed, or runs out of disk or memory | gives the same bytes once it is finished
def test_a_disturbed_study_gives_the_same_bytes(tmp_path):
    said: list[str] = []
    assert run_chaos(tmp_path, 2, 2, 3, FAST, said.append) == []
    assert " differ" in said[-1]
    assert not said[-1].startswith("0 files")
