"""Work in threads: the order of the results, and the same bits whatever their number."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from orchestrator.ensembles import parallel
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.parallel import each, one_thread_of_blas
from tests.ensembles.candidates import gathered_of, split


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert each(lambda number: number**2, range(20), threads=threads) == [number**2 for number in range(20)]
    assert each(str, [], threads=threads) == []


def test_two_threads_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    assert sorted(each(lambda _: both.wait(), range(2), threads=2)) == [0, 1]


def test_within_a_thread_no_further_threads_are_started() -> None:
    def inner(_: int) -> list[str]:
        return each(lambda _: threading.current_thread().name, range(3), threads=2)

    for names in each(inner, range(2), threads=2):
        assert len(set(names)) == 1
    assert threading.current_thread().name not in each(lambda _: threading.current_thread().name, range(2), threads=2)


def test_what_is_raised_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError, match="division"):
        each(lambda number: 1 // number, [1, 0], threads=2)


def test_matrix_products_have_the_same_bits_whatever_the_number_of_threads() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(700, 900)).astype(np.float32), draw.normal(size=(900, 300)).astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"), one_thread_of_blas():
            found.append((first @ second).tobytes())
    assert found[0] == found[1]


def test_a_comparison_has_the_same_bits_whatever_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test = split(12, 200, 100, architectures=("mlp", "convnet"), seeds=3)
    found: list[Any] = []
    for threads in (1, 2):
        monkeypatch.setattr(parallel, "MOST_THREADS", threads)
        with threadpool_limits(threads, user_api="blas"):
            found.append(compare(gathered_of(pool, test), resamples=200))
    one, two = found
    for key in one.keys() - {"uid", "created_ms"}:
        assert one[key] == two[key], key
