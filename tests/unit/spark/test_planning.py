from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mirabelle.spark.planning import BYTES_WORTH_ONE_EMBEDDING, Pace, engine_threads, plan_tasks


@given(
    st.floats(1, 1000),
    st.integers(1, 64),
    st.integers(1, 10**6),
    st.lists(st.tuples(st.integers(0, 10**5), st.floats(0, 1000))),
)
def test_chunks_are_never_empty_nor_above_their_limit(
    seconds: float, slots: int, most: int, measured: list[tuple[int, float]]
) -> None:
    pace = Pace(seconds, 2, slots, most, 100)
    for images, took in measured:
        assert 1 <= pace.chunk_images(10**9) <= most
        pace.measured(images, took)
    assert 1 <= pace.chunk_images(10**9) <= most


def test_chunks_take_the_time_they_are_given() -> None:
    pace = Pace(seconds=120, chunks=2, slots=2, most=10**6, task_most=10**6)
    # Slow until it is known better, so that little is lost if it is killed.
    assert pace.chunk_images(left=10**6) == 60 * 2 * 4
    pace.measured(480, 5.0)
    assert pace.chunk_images(left=10**6) == 60 * 96
    # The end comes in ever smaller ones, down to ten seconds.
    assert pace.chunk_images(left=4_000) == 3_000
    assert pace.chunk_images(left=10) == 960


def test_tasks_take_long_enough_for_a_file_and_less_towards_the_end() -> None:
    pace = Pace(seconds=120, chunks=2, slots=2, most=10**6, task_most=1500)
    assert pace.task_images(left=90_000) == pace.task_images(left=3) == 96
    pace.measured(1000, 10.0)
    assert pace.task_images(left=90_000) == 20 * 100 // 2
    assert pace.task_images(left=4_000) == 4_000 // 8 // 2
    assert pace.task_images(left=3) == 1.5 * 100 // 2
    pace.measured(10_000, 10.0)
    assert pace.task_images(left=90_000) == 1500


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), min_size=1, max_size=200), st.integers(1, 8))
def test_twins_share_a_task_and_come_right_after_their_like(rows: list[tuple[int, bool]], slots: int) -> None:
    twins = np.array([twin and i > 0 for i, (_, twin) in enumerate(rows)])
    tasks = plan_tasks(np.array([size for size, _ in rows]), slots, 10, twins)
    assert sorted(int(i) for task in tasks for i in task) == list(range(len(rows)))
    for task in tasks:
        assert not twins[task[0]]
        assert all(i == before + 1 for before, i in pairwise(task) if twins[i])


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=300), st.integers(1, 8), st.integers(1, 50))
def test_tasks_cover_every_image_once(sizes: list[int], slots: int, most: int) -> None:
    tasks = plan_tasks(np.array(sizes), slots, most)
    assert sorted(int(i) for task in tasks for i in task) == list(range(len(sizes)))
    assert all(len(task) for task in tasks)
    assert len(tasks) == len(sizes) or len(tasks) % slots == 0


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300), st.integers(1, 8))
def test_no_task_costs_more_than_the_mean_and_its_costliest_image(sizes: list[int], slots: int) -> None:
    costs = np.array(sizes) + BYTES_WORTH_ONE_EMBEDDING
    loads = [costs[task].sum() for task in plan_tasks(np.array(sizes), slots, 20)]
    # What longest processing time first guarantees: the last image put on the fullest task found it the emptiest.
    assert max(loads) <= costs.sum() / len(loads) + costs.max()


def test_a_few_huge_pictures_do_not_share_a_task() -> None:
    sizes = np.array([5_000] * 96 + [20_000_000] * 4)
    assert sorted(int((sizes[task] > 10**6).sum()) for task in plan_tasks(sizes, 4, 25)) == [1, 1, 1, 1]


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 128))
def test_threads_times_tasks_never_exceed_the_cores(task_cpus: int, slots: int, cores: int) -> None:
    threads = engine_threads(task_cpus, slots, cores)
    assert 1 <= threads <= task_cpus
    # One thread a task is the least there can be; only there may Spark itself have been given too many tasks.
    assert threads * slots <= cores or threads == 1


def test_a_task_with_several_cores_uses_them() -> None:
    assert engine_threads(task_cpus=4, slots=4, cores=16) == 4
    assert engine_threads(task_cpus=4, slots=4, cores=8) == 2
