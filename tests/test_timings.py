"""What is timed once on a machine is in test_sparse.py and test_similarity.py; here are memory and threads."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from wsnlib import experiments, timings

FAULTS = """
import resource
import torch
from wsnlib.timings import reused_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults(10)
with reused_memory():
    faults(40)  # glibc keeps seven small remainders of each size, which part large blocks
    print(without, faults(10))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults of glibc")
def test_memory_that_a_step_frees_is_there_for_the_next_one():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    without, reused = map(int, done.stdout.split())
    assert without > 100 and reused < max(20, 0.01 * without)


def test_of_two_who_measure_at_once_the_first_one_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_TIMES", str(tmp_path / "times.json"))
    assert timings.kept("a", lambda: timings.kept("a", lambda: 1.0) + 1) == 1.0
    assert timings.kept("a", lambda: 3.0) == 1.0


def test_a_time_that_cannot_be_kept_is_measured_again(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WSN_TIMES", str(tmp_path / "file" / "times.json"))
    assert (timings.kept("a", lambda: 1.0), timings.kept("a", lambda: 2.0)) == (1.0, 2.0)


def test_threads_are_those_of_torch_and_of_numpy():
    def used() -> set[int]:
        return {torch.get_num_threads()} | {
            each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"
        }

    before = used()
    assert np.ones(1) @ np.ones(1) == 1
    with experiments.cpu_threads(1):
        assert used() == {1}
    assert used() == before
