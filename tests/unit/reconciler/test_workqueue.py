"""The work queue: each service once, by priority, per server, nobody starved."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.workqueue import OLDEST_EVERY, Priority, Task, WorkQueue

COMMAND, CHANGE, DRIFT, DELETION = Priority


class Queue(WorkQueue):
    """A queue with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.readied = 0
        super().__init__(clock=lambda: self.now, on_ready=self._count)

    def _count(self) -> None:
        self.readied += 1

    def next(self, *full: int | None) -> int | None:
        """The next service, of lanes that are not full; it stays being worked on."""
        task = self.take(lambda lane: lane not in full)
        return None if task is None else task.item_id

    def drain(self, *full: int | None) -> list[int]:
        """All that can be taken, in order; none is worked on afterwards."""
        order = []
        while (task := self.take(lambda lane: lane not in full)) is not None:
            order.append(task.item_id)
            self.done(task)
        return order


@pytest.fixture
def queue() -> Queue:
    return Queue()


def take(queue: Queue) -> Task:
    task = queue.take(lambda _: True)
    assert task is not None
    return task


def test_service_added_twice_is_taken_once(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    queue.add(7, 1, DRIFT)
    assert len(queue) == 1
    assert queue.drain() == [7]


def test_better_priority_goes_first_and_order_of_arrival_within_one(queue: Queue) -> None:
    for item, priority in ((1, DELETION), (2, DRIFT), (3, CHANGE), (4, COMMAND), (5, COMMAND), (6, DRIFT)):
        queue.add(item, 1, priority)
    assert queue.drain() == [4, 5, 3, 2, 6, 1]


def test_service_added_with_a_better_priority_moves_up_and_never_down(queue: Queue) -> None:
    queue.add(1, 1, CHANGE)
    queue.add(2, 1, DELETION, actor="scan")
    queue.add(2, 1, COMMAND, actor="operator")
    queue.add(2, 1, DRIFT, actor="scan")
    task = take(queue)
    assert (task.item_id, task.priority, task.actor) == (2, COMMAND, "operator")


def test_priorities_hold_across_servers(queue: Queue) -> None:
    queue.add(1, 1, DRIFT)
    queue.add(2, 2, COMMAND)
    assert queue.drain() == [2, 1]


def test_server_without_a_place_delays_no_other(queue: Queue) -> None:
    queue.add(1, 1, COMMAND)
    queue.add(2, 2, DELETION)
    assert queue.next(1) == 2
    assert queue.next(1) is None
    assert queue.next() == 1


def test_service_is_not_taken_while_it_is_worked_on_and_once_more_afterwards(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    task = take(queue)
    queue.add(7, 1, CHANGE)
    queue.add(7, 1, DRIFT)
    assert queue.next() is None
    assert 7 in queue
    queue.done(task)
    again = take(queue)
    assert (again.item_id, again.priority) == (7, CHANGE)
    queue.done(again)
    assert queue.next() is None
    assert 7 not in queue


def test_delayed_service_comes_when_its_time_has_come(queue: Queue) -> None:
    queue.add(7, 1, DRIFT, delay_seconds=5)
    assert queue.get_wait_seconds() == 5
    assert queue.next() is None
    queue.now += 5
    assert queue.next() == 7


def test_delayed_service_comes_at_once_when_it_is_added_without_delay(queue: Queue) -> None:
    queue.add(7, 1, DRIFT, delay_seconds=5)
    queue.add(7, 1, CHANGE)
    assert queue.drain() == [7]
    queue.now += 5
    assert queue.next() is None


def test_delay_does_not_put_off_what_is_ready(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    queue.add(7, 1, DRIFT, delay_seconds=5)
    assert queue.next() == 7


def test_shorter_delay_counts(queue: Queue) -> None:
    queue.add(7, 1, DRIFT, delay_seconds=50)
    queue.add(7, 1, DRIFT, delay_seconds=5)
    queue.now += 5
    assert queue.next() == 7
    queue.now += 50
    assert queue.next() is None


def test_service_delayed_while_it_is_worked_on_waits_its_time(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    task = take(queue)
    queue.add(7, 1, DRIFT, delay_seconds=5)
    queue.done(task)
    assert queue.next() is None
    queue.now += 5
    assert queue.next() == 7


def test_parked_service_waits_until_its_server_is_released(queue: Queue) -> None:
    for item, lane in ((1, 1), (2, 2)):
        queue.add(item, lane, DRIFT)
        task = take(queue)
        queue.done(task)
        queue.park(task)
    assert queue.drain() == []
    assert queue.count()[DRIFT] == 2
    assert queue.release(1) == 1
    assert queue.drain() == [1]
    assert queue.release(1) == 0


def test_parked_service_is_tried_when_somebody_asks_for_it(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    task = take(queue)
    queue.done(task)
    queue.park(task)
    queue.add(7, 1, COMMAND)
    assert queue.drain() == [7]
    assert queue.release(1) == 0


def test_service_that_was_asked_for_meanwhile_is_not_parked(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    task = take(queue)
    queue.add(7, 1, COMMAND)
    queue.done(task)
    queue.park(task)
    assert queue.drain() == [7]


def test_service_that_moved_waits_for_its_new_server(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    queue.add(7, 2, DRIFT)
    assert queue.next(2) is None
    assert queue.next(1) == 7


def test_waiting_time_is_counted_from_when_it_could_be_taken(queue: Queue) -> None:
    queue.add(7, 1, DRIFT, delay_seconds=5)
    queue.now += 8
    assert take(queue).ready_at == 105


def test_low_priorities_are_not_starved(queue: Queue) -> None:
    queue.add(1, 1, DELETION)
    queue.now += 1
    for item in range(1000, 1000 + OLDEST_EVERY):
        queue.add(item, 1, COMMAND)
    order = queue.drain()
    assert order.index(1) == OLDEST_EVERY - 1


def test_whoever_waits_for_the_queue_is_woken(queue: Queue) -> None:
    queue.add(7, 1, DRIFT)
    task = take(queue)
    before = queue.readied
    queue.done(task)
    assert queue.readied > before
    for item in (1, 2, 3):
        queue.add(item, 1, CHANGE)
    assert queue.drain() == [1, 2, 3]


def test_many_threads_never_work_on_one_service_at_once() -> None:
    queue = WorkQueue()
    working: set[int] = set()
    lock = threading.Lock()
    overlaps: list[int] = []
    done = []

    def work() -> None:
        for _ in range(2000):
            task = queue.take(lambda _: True)
            if task is None:
                continue
            with lock:
                if task.item_id in working:
                    overlaps.append(task.item_id)
                working.add(task.item_id)
            queue.add(task.item_id, 1, DRIFT)
            with lock:
                working.discard(task.item_id)
                done.append(task.item_id)
            queue.done(task)

    for item in range(5):
        queue.add(item, 1, DRIFT)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert set(done) == set(range(5))


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "delay", "take", "done", "park", "release", "wait"]),
        st.integers(0, 4),
        st.integers(0, 2),
        st.sampled_from(Priority),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_nothing_is_lost_and_nothing_is_worked_on_twice_at_once(
    actions: list[tuple[str, int, int, Priority]],
) -> None:
    queue = Queue()
    running: dict[int, Task] = {}
    owed: set[int] = set()
    for action, item, lane, priority in actions:
        if action in {"add", "delay"}:
            queue.add(item, lane, priority, delay_seconds=3.0 if action == "delay" else 0.0)
            owed.add(item)
        elif action == "take":
            task = queue.take(lambda _: True)
            if task is not None:
                assert task.item_id not in running
                running[task.item_id] = task
                owed.discard(task.item_id)
        elif action in {"done", "park"} and item in running:
            task = running.pop(item)
            queue.done(task)
            if action == "park":
                queue.park(task)
                owed.add(item)
        elif action == "release":
            queue.release(lane)
        else:
            queue.now += 2.0
        assert owed == {each for each in range(5) if each in queue._waiting or queue._running.get(each)}
    for task in running.values():
        queue.done(task)
    for lane in range(3):
        queue.release(lane)
    queue.now += 10.0
    assert sorted(queue.drain()) == sorted(owed)
    assert len(queue) == 0
