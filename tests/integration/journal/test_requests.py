"""What operators ask of a running daemon: each wish goes to one taker, and gets its answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from reconciler.journal import Answer, Journal, Request, describe_this_process
from reconciler.journal.holders import is_gone
from reconciler.journal.tables import request
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW

LATER = NOW + timedelta(minutes=1)
ELSEWHERE = "other-host/boot.namespace/42/4711"
WHOLE = Answer("backoff", "кончилось", ("create", "set_quota"), "the server failed", "guard deletions: waits")


@pytest.fixture
def ended_holder() -> str:
    """The name of a process of this machine that has ended."""
    code = "from reconciler.journal import describe_this_process as name; print(name())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name = result.stdout.strip()
    assert is_gone(name)
    return name


def take_ids(journal: Journal, holder: str) -> list[int]:
    return [one.item_id for one in journal.requests.take(holder)]


def test_a_wish_is_on_record_until_it_is_answered(place: JournalPlace) -> None:
    ids = place.open().requests.add([7, 3], "operator:root", NOW)
    journal = place.open()  # another process
    assert journal.requests.get(ids) == {
        ids[0]: Request(ids[0], 7, "operator:root", NOW),
        ids[1]: Request(ids[1], 3, "operator:root", NOW),
    }
    assert journal.requests.get([ids[1] + 1]) == {}
    assert journal.requests.get([]) == {}


def test_each_wish_is_taken_once_and_in_the_order_in_which_it_came(journal: Journal) -> None:
    journal.requests.add([7, 3], "a", NOW)
    journal.requests.add([7], "b", NOW)
    taken = journal.requests.take("daemon")
    assert [(one.item_id, one.actor, one.taken_by) for one in taken] == [
        (7, "a", "daemon"),
        (3, "a", "daemon"),
        (7, "b", "daemon"),
    ]
    assert take_ids(journal, "daemon") == []
    assert take_ids(journal, "other") == []


def test_many_wishes_are_taken_at_once(journal: Journal) -> None:
    journal.requests.add(range(1, 1301), "a", NOW)
    assert take_ids(journal, "daemon") == list(range(1, 1301))


def test_daemons_that_take_at_once_share_the_wishes(place: JournalPlace) -> None:
    journals = [place.open() for _ in range(4)]
    journals[0].requests.add(range(1, 201), "a", NOW)
    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(take_ids, journals, [f"daemon{number}" for number in range(4)]))
    taken = [item for share in shares for item in share]
    assert sorted(taken) == list(range(1, 201))


@pytest.mark.parametrize("answer", [WHOLE, Answer("active", "as sold")])
def test_an_answer_comes_back_as_it_was_given(journal: Journal, answer: Answer) -> None:
    ids = journal.requests.add([7, 7, 8], "a", NOW)
    journal.requests.take("daemon")
    journal.requests.finish(ids[:2], answer, LATER)
    found = journal.requests.get(ids)
    assert [found[each].answer for each in ids] == [answer, answer, None]


def test_an_answered_wish_is_not_taken_again(journal: Journal, ended_holder: str) -> None:
    ids = journal.requests.add([7], "a", NOW)
    journal.requests.take(ended_holder)
    journal.requests.finish(ids, WHOLE, LATER)
    assert journal.requests.take("daemon") == []
    assert journal.requests.take_over("daemon") == []


def test_what_an_ended_daemon_left_is_taken_over_and_nothing_of_a_living_one(
    journal: Journal, ended_holder: str
) -> None:
    takers: list[tuple[int, Callable[[], str]]] = [
        (1, lambda: ended_holder),
        (2, describe_this_process),
        (3, lambda: ELSEWHERE),
    ]
    for item, get_name in takers:
        journal.requests.add([item], "a", NOW)
        assert take_ids(journal, get_name()) == [item]
    journal.requests.add([4], "a", NOW)
    assert [one.item_id for one in journal.requests.take_over("daemon")] == [1]
    assert journal.requests.take_over("daemon") == []


def test_wishes_that_nobody_works_on_can_be_taken_back(journal: Journal, ended_holder: str) -> None:
    left, ours, elsewhere, done, free = (journal.requests.add([item], "a", NOW)[0] for item in range(1, 6))
    for request_id, holder in (
        (left, ended_holder),
        (ours, describe_this_process()),
        (elsewhere, ELSEWHERE),
        (done, ended_holder),
    ):
        with journal._store.write() as connection:
            connection.execute(sa.update(request).where(request.c.id == request_id).values(taken_by=holder))
    journal.requests.finish([done], WHOLE, LATER)
    everything = [left, ours, elsewhere, done, free]
    assert journal.requests.withdraw(everything) == {left, free}
    assert set(journal.requests.get(everything)) == {ours, elsewhere, done}
    assert journal.requests.withdraw(everything) == set()
    assert journal.requests.withdraw([]) == set()


def test_answers_are_forgotten_after_a_time_and_open_wishes_never(journal: Journal) -> None:
    old, new, open_one = (journal.requests.add([item], "a", NOW)[0] for item in range(1, 4))
    journal.requests.finish([old], WHOLE, NOW)
    journal.requests.finish([new], WHOLE, LATER)
    journal.requests.forget(LATER)
    assert set(journal.requests.get([old, new, open_one])) == {new, open_one}
