"""How many edits a server allows in a time, who comes first, and how a higher limit is found out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.edits import NEXTCLOUD_LIMIT, WINDOW, EditBudget, EditRank
from tests.unit.reconciler.samples import NOW, FakeClock

SECOND = timedelta(seconds=1)
PROMPT, LACK, REST = EditRank.PROMPT, EditRank.LACK, EditRank.REST
SERVER_WINDOW = timedelta(seconds=600)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def budget(clock: FakeClock) -> EditBudget:
    """A Nextcloud 27's, of which nothing was used yet."""
    made = EditBudget(clock)
    made.begin(NEXTCLOUD_LIMIT, [])
    return made


def spend(budget: EditBudget, count: int, *, first_item: int = 1000) -> None:
    """Make so many edits, as long as the server takes them."""
    for item in range(first_item, first_item + count):
        assert budget.admit(item, REST) is None, f"edit {item - first_item + 1} of {count}"
        budget.note_done()


def exhaust(budget: EditBudget, clock: FakeClock) -> None:
    """Make all the edits of a window, and find out that no more are allowed."""
    spend(budget, NEXTCLOUD_LIMIT)
    assert budget.admit(1, REST) is None, "one tries whether the limit is higher"
    budget.note_refused(None)
    assert budget.limit == NEXTCLOUD_LIMIT


# -- the window


def test_without_a_known_limit_everybody_edits(clock: FakeClock) -> None:
    budget = EditBudget(clock)
    budget.begin(None, [NOW] * 500)
    spend(budget, 500)
    assert str(budget) == "no limit known"


def test_the_limit_is_told_in_words(budget: EditBudget) -> None:
    assert str(budget) == "50 in 10 minutes"


def test_each_edit_comes_back_when_its_window_is_over(budget: EditBudget, clock: FakeClock) -> None:
    for item in range(NEXTCLOUD_LIMIT):
        assert budget.admit(item, REST) is None
        budget.note_done()
        clock.advance(seconds=2)
    assert budget.admit(100, REST) is None
    budget.note_refused(None)
    first_end, second_end = NOW + WINDOW, NOW + WINDOW + 2 * SECOND
    assert budget.admit(101, REST) == first_end
    assert budget.admit(102, REST) == second_end
    clock.now = first_end - timedelta(microseconds=1)
    assert budget.admit(101, REST) == first_end
    clock.now = first_end
    assert budget.admit(101, REST) is None
    assert budget.admit(102, REST) == second_end
    clock.now = second_end
    assert budget.admit(102, REST) is None


def test_the_window_is_a_little_longer_than_the_servers() -> None:
    """Or the first edit of each window would come a blink too early, and be refused."""
    assert SERVER_WINDOW + SECOND < WINDOW < SERVER_WINDOW + 10 * SECOND


def test_a_long_line_is_told_its_windows(budget: EditBudget, clock: FakeClock) -> None:
    exhaust(budget, clock)
    told = [budget.admit(item, REST) for item in range(120)]
    assert told == [NOW + WINDOW] * 50 + [NOW + 2 * WINDOW] * 50 + [NOW + 3 * WINDOW] * 20


def test_what_was_spent_before_this_run_counts(clock: FakeClock) -> None:
    budget = EditBudget(clock)
    spent = [NOW - WINDOW, *(NOW - timedelta(seconds=each) for each in range(1, 49))]
    budget.begin(NEXTCLOUD_LIMIT, spent)
    spend(budget, 2)
    assert budget.admit(1, REST) is None, "the one that tries"
    budget.note_refused(None)
    assert budget.admit(1, REST) == NOW - 48 * SECOND + WINDOW


def test_edits_that_the_journal_has_too_count_once_and_those_of_others_count(
    budget: EditBudget, clock: FakeClock
) -> None:
    begun = [NOW + timedelta(microseconds=each) for each in range(20)]
    clock.advance(seconds=1)
    for item, at in enumerate(begun):
        assert budget.admit(item, REST, at) is None
        budget.note_done()
    others = [NOW + timedelta(milliseconds=each + 1) for each in range(10)]
    for _ in range(3):
        budget.begin(NEXTCLOUD_LIMIT, [*begun, *others])
    spend(budget, 20)
    assert budget.admit(2000, REST) is None, "the one that tries"
    assert budget.admit(2001, REST) == clock.now + 2 * SECOND


def test_a_limit_that_was_found_out_outlives_a_new_connection(budget: EditBudget, clock: FakeClock) -> None:
    spend(budget, 51)
    assert budget.limit == 100
    budget.begin(NEXTCLOUD_LIMIT, [])
    assert budget.limit == 100


def test_a_server_that_became_one_without_a_limit_is_known_to_have_none(
    budget: EditBudget, clock: FakeClock
) -> None:
    exhaust(budget, clock)
    budget.begin(None, [])
    clock.advance(minutes=11)
    spend(budget, 100)
    budget.begin(NEXTCLOUD_LIMIT, [])
    assert budget.limit == NEXTCLOUD_LIMIT


# -- who comes first


def test_whoever_waits_comes_by_rank_and_then_by_turn(budget: EditBudget, clock: FakeClock) -> None:
    exhaust(budget, clock)
    arrivals = [(1, REST), (2, LACK), (3, REST), (4, PROMPT), (5, LACK)]
    for item, rank in arrivals:
        assert budget.admit(item, rank) is not None
        clock.advance(seconds=1)
    clock.now = NOW + WINDOW
    budget.begin(NEXTCLOUD_LIMIT, [NOW + SECOND] * 47)  # three places are free
    let_in = [item for item, rank in arrivals if budget.admit(item, rank) is None]
    assert let_in == [2, 4, 5]
    clock.now += SECOND
    assert [item for item in (3, 1) if budget.admit(item, REST) is None] == [3, 1]


def test_who_comes_late_but_urgent_takes_the_place_of_who_waits(budget: EditBudget, clock: FakeClock) -> None:
    exhaust(budget, clock)
    for item in range(50):
        assert budget.admit(item, LACK) == NOW + WINDOW
    assert budget.admit(60, REST) == NOW + 2 * WINDOW
    assert budget.admit(70, PROMPT) == NOW + WINDOW
    clock.now = NOW + WINDOW
    assert budget.admit(60, REST) == NOW + 2 * WINDOW, "nobody slips in before those who wait"
    assert budget.admit(49, LACK) == NOW + 2 * WINDOW, "the last of fifty made room"
    assert budget.admit(70, PROMPT) is None
    assert all(budget.admit(item, LACK) is None for item in range(49))


def test_a_place_in_line_is_kept_over_every_question_and_moves_with_the_rank(
    budget: EditBudget, clock: FakeClock
) -> None:
    exhaust(budget, clock)
    for item in (1, 2):
        budget.admit(item, REST)
        clock.advance(seconds=1)
    for _ in range(5):
        budget.admit(1, REST)
        clock.advance(seconds=1)
    budget.admit(3, LACK)
    budget.admit(3, REST)  # what it lacked was repaired otherwise
    clock.now = NOW + WINDOW
    budget.begin(NEXTCLOUD_LIMIT, [NOW + SECOND] * 48)
    assert [item for item in (3, 2, 1) if budget.admit(item, REST) is None] == [2, 1]


def test_who_does_not_come_back_loses_its_place(budget: EditBudget, clock: FakeClock) -> None:
    exhaust(budget, clock)
    for item in range(50):
        budget.admit(item, PROMPT)
    clock.now = NOW + WINDOW + timedelta(seconds=120)
    assert budget.admit(60, REST) is not None
    clock.now = NOW + WINDOW + timedelta(seconds=135)
    assert budget.admit(60, REST) is None


# -- finding out


def test_beyond_the_known_limit_one_tries_and_the_others_wait_for_him(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, NEXTCLOUD_LIMIT)
    assert budget.admit(1, REST) is None
    for item in range(2, 20):
        assert budget.admit(item, PROMPT) == NOW + 2 * SECOND
    budget.note_done()
    assert budget.limit == 100
    assert all(budget.admit(item, PROMPT) is None for item in range(2, 20))


@pytest.mark.parametrize("real_limit", [50, 51, 70, 100, 137, 300])
def test_a_raised_limit_is_found_out_by_single_tries(
    budget: EditBudget, clock: FakeClock, real_limit: int
) -> None:
    server = Server(clock, real_limit)
    refused = 0
    for item in range(real_limit + 1):
        assert budget.admit(item, REST) is None
        if server.edit():
            budget.note_done()
        else:
            budget.note_refused(None)
            refused += 1
    assert (budget.limit, refused) == (real_limit, 1)
    assert budget.admit(9999, PROMPT) == NOW + WINDOW, "nobody tries again"


def test_a_limit_that_is_switched_off_is_found_out_at_the_price_of_single_tries(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, 5000)


def test_once_the_limit_is_sure_nobody_tries_beyond_it(budget: EditBudget, clock: FakeClock) -> None:
    exhaust(budget, clock)
    for _ in range(3):
        assert budget.admit(1, PROMPT) == clock.now + WINDOW
        clock.now += WINDOW
        assert budget.admit(1, PROMPT) is None
        spend(budget, NEXTCLOUD_LIMIT - 1)


def test_a_try_that_nobody_told_the_end_of_holds_up_the_others_for_a_while_only(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, NEXTCLOUD_LIMIT)
    assert budget.admit(1, REST) is None
    clock.advance(seconds=89)
    assert budget.admit(2, REST) == clock.now + 2 * SECOND
    clock.advance(seconds=1)
    assert budget.admit(2, REST) is None


def test_who_is_far_behind_does_not_ask_every_two_seconds_while_one_tries(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, NEXTCLOUD_LIMIT)
    budget.admit(1, REST)
    told = [budget.admit(item, LACK) for item in range(2, 1002)]
    assert told[:101] == [NOW + 2 * SECOND] * 50 + [NOW + 4 * SECOND] * 50 + [NOW + 8 * SECOND]
    assert told[-1] == NOW + 256 * SECOND


def test_as_long_as_nothing_was_refused_nobody_near_is_sent_away_for_the_window(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, NEXTCLOUD_LIMIT)
    assert budget.admit(1, REST) is None
    assert budget.admit(2, REST) == NOW + 2 * SECOND
    budget.note_done()
    spend(budget, 100 - NEXTCLOUD_LIMIT - 1)
    assert budget.admit(3, REST) is None, "the second, who has not come back yet, is before it in the line"
    budget.note_done()
    assert budget.limit == 200


# -- refused


def test_a_refusal_below_the_known_limit_means_that_less_is_left_for_a_while(
    budget: EditBudget, clock: FakeClock
) -> None:
    """Somebody else edits with the same login, or an administrator has lowered the limit."""
    spend(budget, 10)
    assert budget.admit(1, REST) is None
    budget.note_refused(None)
    assert str(budget) == "10 in 10 minutes"
    retry_at = NOW + timedelta(seconds=60)
    assert [budget.admit(item, PROMPT) for item in (1, 2)] == [retry_at, retry_at]
    clock.now = retry_at - timedelta(microseconds=1)
    assert budget.admit(1, PROMPT) == retry_at
    clock.now = retry_at
    assert budget.admit(1, PROMPT) is None, "the first in line tries"
    assert [budget.admit(item, PROMPT) for item in range(2, 10)] == [retry_at + 2 * SECOND] * 8
    budget.note_done()
    assert budget.limit == 20
    assert all(budget.admit(item, PROMPT) is None for item in range(2, 10))


def test_while_it_is_refused_the_first_in_line_tries_once_a_minute(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, 5)
    assert budget.admit(1, REST) is None
    budget.note_refused(None)
    for minute in range(1, 8):
        assert [budget.admit(item, REST) for item in (1, 2, 3)] == [clock.now + 60 * SECOND] * 3
        clock.now = NOW + minute * 60 * SECOND
        assert [item for item in (3, 2, 1) if budget.admit(item, REST) is None] == [1 + (minute - 1) % 3]
        budget.note_refused(None)
    assert budget.limit == 5


def test_a_pause_that_the_server_asks_for_is_kept_and_then_one_tries(
    budget: EditBudget, clock: FakeClock
) -> None:
    spend(budget, 10)
    assert budget.admit(1, REST) is None
    budget.note_refused(timedelta(seconds=300))
    retry_at = NOW + timedelta(seconds=300)
    assert [budget.admit(item, PROMPT) for item in (1, 2)] == [retry_at, retry_at]
    clock.now = retry_at
    assert budget.admit(2, PROMPT) == retry_at + 2 * SECOND, "the first in line tries"
    assert budget.admit(1, PROMPT) is None
    assert [budget.admit(item, PROMPT) for item in range(2, 10)] == [retry_at + 2 * SECOND] * 8
    budget.note_done()
    assert all(budget.admit(item, PROMPT) is None for item in range(2, 10))
    assert budget.limit == NEXTCLOUD_LIMIT, "it says nothing of the limit"


def test_a_refusal_does_not_count_as_an_edit(budget: EditBudget, clock: FakeClock) -> None:
    budget.admit(1, REST)
    budget.note_refused(timedelta(seconds=60))
    clock.advance(seconds=60)
    spend(budget, NEXTCLOUD_LIMIT)
    budget.admit(1, REST)
    budget.note_refused(None)
    assert budget.limit == NEXTCLOUD_LIMIT


def test_a_server_without_a_known_limit_that_refuses_is_asked_one_by_one(clock: FakeClock) -> None:
    budget = EditBudget(clock)
    budget.begin(None, [])
    budget.admit(1, REST)
    budget.note_refused(None)
    assert budget.admit(1, REST) == NOW + 60 * SECOND
    clock.advance(seconds=60)
    assert budget.admit(1, REST) is None
    assert budget.admit(2, REST) is not None
    budget.note_done()
    spend(budget, 100)


def test_several_calls_under_way_end_at_the_right_limit(budget: EditBudget, clock: FakeClock) -> None:
    server = Server(clock, 70)
    spend(budget, 51)  # now twice as many are thought to be allowed
    for _ in range(51):
        server.edit()
    under_way = [item for item in range(30) if budget.admit(item, REST) is None]
    assert len(under_way) == 30
    for _ in under_way:
        if server.edit():
            budget.note_done()
        else:
            budget.note_refused(None)
    assert budget.limit == 70


# -- the clock


def test_when_the_clock_goes_back_everything_is_as_long_ago_as_it_was(
    budget: EditBudget, clock: FakeClock
) -> None:
    exhaust(budget, clock)
    budget.admit(1, REST)
    clock.advance(seconds=300)
    budget.admit(2, PROMPT)
    clock.advance(hours=-5)
    left = WINDOW - timedelta(seconds=300)
    assert budget.admit(1, REST) == clock.now + left
    clock.now += left
    assert budget.admit(1, REST) is None
    spend(budget, 48)
    assert budget.admit(3, REST) is not None, "the last place is for who waits"
    assert budget.admit(2, PROMPT) is None


def test_a_pause_does_not_grow_when_the_clock_goes_back(budget: EditBudget, clock: FakeClock) -> None:
    budget.admit(1, REST)
    budget.note_refused(timedelta(seconds=100))
    clock.advance(days=-1)
    assert budget.admit(1, REST) == clock.now + 100 * SECOND


def test_times_of_the_journal_that_lie_in_the_future_are_left_out(clock: FakeClock) -> None:
    budget = EditBudget(clock)
    budget.begin(NEXTCLOUD_LIMIT, [NOW + timedelta(days=1)] * 50)
    spend(budget, 50)
    assert budget.limit == NEXTCLOUD_LIMIT, "none of them was a try beyond the limit"


# -- over time, against a server that counts as Nextcloud does


@dataclass
class Server:
    """Counts edits as Nextcloud's rate limit does: refused ones do not count."""

    clock: FakeClock
    limit: int
    taken: deque[datetime] = field(default_factory=deque)

    def edit(self) -> bool:
        while self.taken and self.taken[0] <= self.clock.now - SERVER_WINDOW:
            self.taken.popleft()
        if len(self.taken) >= self.limit:
            return False
        self.taken.append(self.clock.now)
        return True


@pytest.mark.parametrize(
    ("limit", "services", "most_refused"), [(50, 320, 1), (120, 600, 1), (5, 60, 12 * 10)]
)
def test_a_change_of_tariff_gets_through_at_the_servers_pace_in_the_order_of_ranks(
    budget: EditBudget, clock: FakeClock, limit: int, services: int, most_refused: int
) -> None:
    server = Server(clock, limit)
    ranks = {item: (REST, LACK)[item % 2] for item in range(services)}
    waiting = dict.fromkeys(ranks, NOW)
    done: list[int] = []
    refused = 0
    while waiting:
        clock.now = max(clock.now, min(waiting.values()))
        item = min(waiting, key=lambda each: (waiting[each], each))
        retry_at = budget.admit(item, ranks[item])
        if retry_at is not None:
            assert retry_at > clock.now
            waiting[item] = retry_at
        elif server.edit():
            budget.note_done()
            done.append(item)
            del waiting[item]
        else:
            budget.note_refused(None)
            refused += 1
            waiting[item] = clock.now + SECOND
        clock.advance(milliseconds=50)
    assert 1 <= refused <= most_refused, "one try finds the limit out; a lowered one takes one a minute"
    windows = -(-services // limit)
    at_best = (windows - 1) * WINDOW + timedelta(minutes=2)
    assert clock.now - NOW < (at_best if most_refused == 1 else 1.1 * at_best)
    later = [ranks[item] for item in done[limit:]]
    last = max(place for place, rank in enumerate(later) if rank is LACK)
    assert last < later.count(LACK) + limit, "who has less than he bought comes first"


Act = st.one_of(
    st.tuples(st.just("admit"), st.integers(0, 120), st.sampled_from(EditRank)),
    st.tuples(st.just("wait"), st.integers(0, 400), st.none()),
    st.tuples(st.just("jump"), st.integers(1, 5000), st.none()),
    st.tuples(st.just("connect"), st.none(), st.none()),
)


@given(acts=st.lists(Act, max_size=200))
def test_never_more_than_a_sure_limit_is_admitted_within_a_window(
    acts: list[tuple[str, int, EditRank]],
) -> None:
    clock = FakeClock()
    budget = EditBudget(clock)
    budget.begin(NEXTCLOUD_LIMIT, [])
    exhaust(budget, clock)
    elapsed = timedelta()
    admitted = [elapsed] * NEXTCLOUD_LIMIT
    journal = [NOW] * NEXTCLOUD_LIMIT
    for act, value, rank in acts:
        if act == "admit":
            for item in range(value, value + 10):
                if budget.admit(item, rank, clock.now) is None:
                    budget.note_done()
                    admitted.append(elapsed)
                    journal.append(clock.now)
        elif act == "wait":
            clock.advance(seconds=value)
            elapsed += timedelta(seconds=value)
        elif act == "jump":
            clock.advance(seconds=-value)
        else:
            budget.begin(NEXTCLOUD_LIMIT, [at for at in journal if at > clock.now - WINDOW])
    for start in admitted:
        within = sum(1 for at in admitted if start <= at < start + SERVER_WINDOW)
        assert within <= NEXTCLOUD_LIMIT


@given(ranks=st.lists(st.sampled_from(EditRank), min_size=1, max_size=80), order=st.randoms())
def test_everybody_who_keeps_asking_is_let_in_within_the_windows_there_must_be(
    ranks: list[EditRank], order: Random
) -> None:
    clock = FakeClock()
    budget = EditBudget(clock)
    budget.begin(NEXTCLOUD_LIMIT, [])
    exhaust(budget, clock)
    waiting = dict.fromkeys(range(len(ranks)), clock.now)
    while waiting:
        clock.now = max(clock.now, min(waiting.values()))
        due = [item for item, at in waiting.items() if at <= clock.now]
        order.shuffle(due)
        for item in due:
            retry_at = budget.admit(item, ranks[item])
            if retry_at is None:
                budget.note_done()
                del waiting[item]
            else:
                assert retry_at > clock.now
                waiting[item] = retry_at
    assert clock.now <= NOW + 2 * WINDOW
