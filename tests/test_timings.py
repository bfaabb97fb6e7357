"""What is timed once on a machine is in test_sparse.py and test_similarity.py; here are memory and threads."""

import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from wsnlib import experiments
from wsnlib.timings import reused_memory


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults of glibc")
def test_memory_that_a_step_frees_is_there_for_the_next_one():
    import resource

    def faults(times: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(times):
            torch.ones(20_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages = 20_000_000 * 4 / resource.getpagesize()
    with reused_memory():
        faults(40)  # glibc keeps seven small remainders of each size between large blocks, which part them
        assert faults(10) < 0.01 * 10 * pages
    assert faults(10) > 5 * pages or faults(10) > 1000  # large pages are fewer


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
