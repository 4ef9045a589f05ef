"""What is remembered of each service: what billing names, states, namesakes, holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from reconciler.journal import Journal, Outcome, Sighting
from reconciler.journal import services as services_module
from reconciler.journal.services import _CHUNK
from reconciler.journal.tables import service
from states import Memory, Ownership, ServiceState, StepKind, Wish
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import (
    NOW,
    PASSWORD,
    begin,
    counted_statements,
    finish,
    make_desired,
    make_step,
    take,
)

LATER = NOW + timedelta(minutes=3)
MANY = 2 * _CHUNK + 1


def statements_of(journal: Journal) -> sa.Engine:
    return journal.services._store.engine


# -- rows


def test_service_that_was_never_looked_at_has_no_record(journal: Journal) -> None:
    assert journal.services.get(7) is None
    assert journal.services.load([]) == {}
    assert journal.services.list_all() == []


def test_first_row_says_what_billing_named_and_that_nothing_was_looked_at(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7, username="User_7", server_id=3)], NOW)
    record = journal.services.get(7)
    assert record is not None
    assert record.memory == Memory()
    assert (record.item_id, record.server_id, record.userid, record.wish) == (7, 3, "user_7", "enabled")
    assert (record.since, record.reason, record.attempts) == (NOW, "not yet looked at", 0)
    assert (record.next_attempt_at, record.last_error, record.blocked_by) == (None, None, None)
    assert (record.stable_at, record.quarantine_mark, record.version) == (None, None, 0)


def test_whole_row_comes_back_as_it_was_written(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    journal.services.update(
        7,
        state=ServiceState.RETIRING.value,
        since=LATER,
        reason="причина 😀 ünïcode",
        attempts=4,
        next_attempt_at=LATER + timedelta(microseconds=7),
        last_error="error",
        blocked_by="guard",
        ownership=Ownership.CREATED.value,
        account_server_id=2,
        account_userid="User_7",
        is_provisioned=True,
        applied_email="a@example.net",
        quarantine_reason="why",
        quarantine_mark="mark",
        retired_since=NOW,
        stable_at=LATER,
    )
    record = journal.services.get(7)
    assert record is not None
    assert record.memory == Memory(
        state=ServiceState.RETIRING,
        ownership=Ownership.CREATED,
        server_id=2,
        userid="User_7",
        is_provisioned=True,
        applied_email="a@example.net",
        quarantine_reason="why",
        retired_since=NOW,
    )
    assert (record.since, record.reason, record.attempts) == (LATER, "причина 😀 ünïcode", 4)
    assert record.next_attempt_at == LATER + timedelta(microseconds=7)
    assert (record.last_error, record.blocked_by) == ("error", "guard")
    assert (record.stable_at, record.quarantine_mark, record.userid) == (LATER, "mark", "User_7")
    assert record.since.tzinfo is not None


def test_every_update_raises_the_version(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    for version in (1, 2):
        journal.services.update(7, attempts=version)
        record = journal.services.get(7)
        assert record is not None
        assert record.version == version


def test_update_of_an_unknown_service_makes_no_row(journal: Journal) -> None:
    journal.services.update(7, attempts=1)
    assert journal.services.get(7) is None


def test_many_services_are_loaded_in_few_queries(journal: Journal) -> None:
    journal.services.note_desired([make_desired(item) for item in range(1, MANY + 1)], NOW)
    with counted_statements(statements_of(journal)) as statements:
        records = journal.services.load([*range(1, MANY + 1), 999_999])
    assert sorted(records) == list(range(1, MANY + 1))
    assert len(statements) == 9  # holds, open creates and rows of three chunks


def test_lists_are_ordered_and_choose_by_state_block_and_ownership(journal: Journal) -> None:
    services = journal.services
    services.note_desired([make_desired(item) for item in (9, 7, 8)], NOW)
    services.update(7, state="active", ownership="created")
    services.update(8, state="backoff", blocked_by="guard")
    assert [record.item_id for record in services.list_all()] == [7, 8, 9]
    chosen = services.list_in_states([ServiceState.ACTIVE, ServiceState.UNKNOWN])
    assert [record.item_id for record in chosen] == [7, 9]
    assert services.list_in_states([]) == []
    assert [record.item_id for record in services.list_blocked()] == [8]
    assert services.list_remembered_ids() == {7}


def test_services_are_counted_by_server_and_state(journal: Journal) -> None:
    services = journal.services
    places = {7: 1, 8: 1, 9: 2, 10: None}
    services.note_desired([make_desired(item, server_id=server) for item, server in places.items()], NOW)
    services.update(7, state="active")
    expected = {(1, "active"): 1, (1, "unknown"): 1, (2, "unknown"): 1, (None, "unknown"): 1}
    assert services.count_by_state() == expected
    assert [services.count_on_server(server) for server in (1, 2, 3)] == [2, 1, 0]


# -- what billing names


def test_what_billing_names_is_written_only_where_it_changed(journal: Journal) -> None:
    services = [make_desired(item) for item in range(1, 6)]
    journal.services.note_desired(services, NOW)
    with counted_statements(statements_of(journal)) as unchanged:
        journal.services.note_desired(services, LATER)
    assert [statement.split()[0] for statement in unchanged] == ["SELECT"]

    services[1] = make_desired(2, username="other")
    services.append(make_desired(6))
    with counted_statements(statements_of(journal)) as changed:
        journal.services.note_desired(services, LATER)
    assert [statement.split()[0] for statement in changed] == ["SELECT", "INSERT", "UPDATE"]
    records = journal.services.list_all()
    assert [record.userid for record in records] == [
        "user_1",
        "other",
        "user_3",
        "user_4",
        "user_5",
        "user_6",
    ]
    assert [record.since for record in records] == [NOW] * 5 + [LATER]


@pytest.mark.parametrize("change", [{"server_id": 2}, {"server_id": None}, {"wish": Wish.ABSENT}])
def test_new_place_or_wish_is_noted(journal: Journal, change: dict[str, object]) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    changed = make_desired(7, **change)
    journal.services.note_desired([changed], LATER)
    record = journal.services.get(7)
    assert record is not None
    assert (record.server_id, record.wish) == (changed.server_id, changed.wish.value)
    assert record.version == 0  # what billing wants is no finding: a scan under way stays valid


def test_name_in_another_case_is_no_change(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    with counted_statements(statements_of(journal)) as statements:
        journal.services.note_desired([make_desired(7, username="USER_7")], LATER)
    assert len(statements) == 1


@pytest.mark.parametrize("wish", list(Wish))
def test_a_read_that_wants_the_account_back_ends_its_grace(journal: Journal, wish: Wish) -> None:
    """Also one of many rows, when the pass that follows reads from a replica that lags behind."""
    journal.services.note_desired([make_desired(7, wish=Wish.ABSENT), make_desired(8)], NOW)
    journal.services.update(7, state="retiring", retired_since=NOW)
    journal.services.note_desired([make_desired(7, wish=wish), make_desired(8, wish=Wish.ABSENT)], NOW)
    record = journal.services.get(7)
    assert record is not None
    assert record.memory.retired_since == (NOW if wish in {Wish.ABSENT, Wish.AS_IS} else None)


def test_service_that_another_notes_at_the_same_moment_is_noted_once(place: JournalPlace) -> None:
    mine, other = place.open(), place.open()
    services = [make_desired(7), make_desired(8)]
    noted_by_other: list[set[int]] = []

    def note_first(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and "desired_key" in statement and not noted_by_other:
            noted_by_other.append(set())
            noted_by_other[0] |= other.services.note_desired(services[:1], NOW).new

    sa.event.listen(mine.services._store.engine, "after_cursor_execute", note_first)
    assert mine.services.note_desired(services, NOW).new == {7, 8}
    assert noted_by_other == [{7}]
    assert mine.services.note_desired(services, NOW).new == set()
    assert mine.services.load([7, 8]).keys() == {7, 8}


def test_full_read_is_noted_in_a_handful_of_statements(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_module, "_WIDE_CHUNK", 500)
    with counted_statements(statements_of(journal)) as statements:
        journal.services.note_desired((make_desired(item) for item in range(1, 1002)), NOW)
    assert len(statements) == 6  # SELECT and INSERT for each of three chunks
    assert len(journal.services.list_all()) == 1001
    with counted_statements(statements_of(journal)) as statements:
        journal.services.note_desired([], NOW)
    assert statements == []


def test_name_of_a_million_characters_is_noted_and_compared(journal: Journal) -> None:
    endless = "X" * 1_000_000
    journal.services.note_desired([make_desired(7, username=endless)], NOW)
    record = journal.services.get(7)
    assert record is not None
    assert record.userid == "x" * 255
    assert journal.services.find_namesake(make_desired(8, username=endless)) == 7


# -- namesakes


@pytest.mark.parametrize("username", ["user_7", "USER_7"])
def test_same_name_on_the_same_server_is_a_namesake(journal: Journal, username: str) -> None:
    journal.services.note_desired([make_desired(7), make_desired(8, username=username)], NOW)
    assert journal.services.find_namesake(make_desired(7)) == 8
    assert journal.services.find_namesake(make_desired(8, username=username)) == 7


def test_service_is_not_its_own_namesake(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7), make_desired(8)], NOW)
    assert journal.services.find_namesake(make_desired(7)) is None


def test_same_name_on_another_server_is_no_namesake(journal: Journal) -> None:
    journal.services.note_desired([make_desired(8, username="user_7", server_id=2)], NOW)
    assert journal.services.find_namesake(make_desired(7)) is None


def test_namesake_is_the_oldest_of_several(journal: Journal) -> None:
    journal.services.note_desired([make_desired(item, username="same") for item in (9, 8, 10)], NOW)
    assert journal.services.find_namesake(make_desired(10, username="same")) == 8


@pytest.mark.parametrize(
    ("wish", "values", "is_rival"),
    [
        (Wish.NONE, {}, False),
        (Wish.NONE, {"ownership": "created"}, True),
        (Wish.ABSENT, {"state": "deleted", "ownership": "created"}, False),
        (Wish.ABSENT, {"state": "retiring", "ownership": "created"}, True),
        (Wish.DISABLED, {}, True),
        (Wish.AS_IS, {}, True),
    ],
)
def test_only_a_service_that_has_or_may_get_an_account_competes_for_the_name(
    journal: Journal, wish: Wish, values: dict[str, object], is_rival: bool
) -> None:
    journal.services.note_desired([make_desired(8, username="user_7", wish=wish)], NOW)
    journal.services.update(8, **values)
    assert journal.services.find_namesake(make_desired(7)) == (8 if is_rival else None)


# -- what a scan saw


def see(item_id: int, version: int = 0, **changes: object) -> Sighting:
    values = {"item_id": item_id, "version": version, "state": ServiceState.ACTIVE, "reason": "as sold"}
    return Sighting(**(values | changes))  # type: ignore[arg-type]


def test_stable_state_that_a_scan_saw_is_recorded(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    journal.services.update(
        7, attempts=3, next_attempt_at=LATER, last_error="error", blocked_by="guard", state="backoff"
    )
    journal.services.record_states([see(7, version=1)], LATER)
    record = journal.services.get(7)
    assert record is not None
    assert (record.memory.state, record.reason) == (ServiceState.ACTIVE, "as sold")
    assert (record.since, record.stable_at, record.version) == (LATER, LATER, 2)
    assert (record.attempts, record.next_attempt_at) == (0, None)
    assert (record.last_error, record.blocked_by) == (None, None)
    assert record.memory.ownership is Ownership.NONE


def test_account_that_a_scan_adopts_is_ours_from_then_on(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7, server_id=3), make_desired(8)], NOW)
    seen = [see(7, adopted_userid="User_7", agreed_email="a@example.net"), see(8)]
    journal.services.record_states(seen, LATER)
    records = journal.services.load([7, 8])
    assert records[7].memory == Memory(
        state=ServiceState.ACTIVE,
        ownership=Ownership.ADOPTED,
        server_id=3,
        userid="User_7",
        is_provisioned=True,
        applied_email="a@example.net",
    )
    assert records[8].memory == Memory(state=ServiceState.ACTIVE)
    assert [records[item].version for item in (7, 8)] == [1, 1]


@pytest.mark.parametrize("adopted_userid", [None, "user_7"])
@pytest.mark.parametrize("writes", [1, 2])
def test_row_that_a_pass_wrote_meanwhile_is_left_alone(
    journal: Journal, adopted_userid: str | None, writes: int
) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    for _ in range(writes):
        journal.services.update(7, state="quarantined", reason="collision")
    before = journal.services.get(7)
    journal.services.record_states([see(7, adopted_userid=adopted_userid)], LATER)
    assert journal.services.get(7) == before


def test_scan_that_saw_nothing_new_writes_nothing(journal: Journal) -> None:
    with counted_statements(statements_of(journal)) as statements:
        journal.services.record_states([], LATER)
    assert statements == []


# -- holds


def test_held_service_says_why_until_it_is_released(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7), make_desired(8)], NOW)
    journal.services.hold(7, "first", "ann", NOW)
    journal.services.hold(7, "переезд", "bob", LATER)
    records = journal.services.load([7, 8])
    assert [records[item].memory.hold_reason for item in (7, 8)] == ["переезд", None]
    assert journal.services.release(7)
    assert journal.services.load([7])[7].memory.hold_reason is None
    assert not journal.services.release(7)


def test_service_may_be_held_before_its_first_look(journal: Journal) -> None:
    journal.services.hold(7, "early", "ann", NOW)
    journal.services.note_desired([make_desired(7)], NOW)
    assert journal.services.load([7])[7].memory.hold_reason == "early"


def test_release_lifts_a_quarantine(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7), make_desired(8)], NOW)
    for item_id in (7, 8):
        journal.services.update(item_id, quarantine_reason="hot loop", quarantine_mark="mark")
    assert journal.services.release(7)
    records = journal.services.load([7, 8])
    assert (records[7].memory.quarantine_reason, records[7].quarantine_mark) == (None, None)
    assert records[8].memory.quarantine_reason == "hot loop"
    assert not journal.services.release(7)


@pytest.mark.parametrize("is_held", [True, False])
def test_scan_under_way_does_not_overwrite_what_a_person_decided_meanwhile(
    journal: Journal, is_held: bool
) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    journal.services.update(7, quarantine_reason="hot loop", state="quarantined")
    judged = journal.services.load([7])[7].version
    if is_held:
        journal.services.hold(7, "why", "ann", NOW)
    else:
        journal.services.release(7)
    journal.services.record_states([see(7, version=judged)], LATER)
    journal.services.record_quiet_marks([(7, judged, "mark")])
    assert journal.services.load([7])[7].memory.state is ServiceState.QUARANTINED
    assert journal.services.load_quiet_marks(1, 7, 7) == {}


# -- marks of services that wait for nothing


def test_quiet_services_are_told_by_server_and_range(journal: Journal) -> None:
    services = journal.services
    services.note_desired([make_desired(item) for item in (7, 8, 9)], NOW)
    services.note_desired([make_desired(10, server_id=2)], NOW)
    services.record_quiet_marks([(item, 0, f"mark {item}") for item in (7, 8, 10)])
    assert services.load_quiet_marks(1, 1, 100) == {7: "mark 7", 8: "mark 8"}
    assert services.load_quiet_marks(1, 8, 9) == {8: "mark 8"}
    assert services.load_quiet_marks(2, 10, 10) == {10: "mark 10"}
    assert services.load([7])[7].version == 0


def test_recorded_state_brings_its_mark(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7), make_desired(8)], NOW)
    journal.services.record_states([see(7, quiet_mark="mark"), see(8)], LATER)
    assert journal.services.load_quiet_marks(1, 7, 8) == {7: "mark"}


def test_every_write_to_a_row_ends_its_quiet(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    writes: list[Callable[[], object]] = [
        lambda: journal.services.update(7, attempts=1),
        lambda: journal.services.hold(7, "why", "ann", NOW),
        lambda: journal.services.release(7),
        lambda: finish(journal, begin(journal, take(journal), make_step()), service_values={"attempts": 0}),
    ]
    for write in writes:
        journal.services.record_quiet_marks([(7, journal.services.load([7])[7].version, "mark")])
        assert journal.services.load_quiet_marks(1, 7, 7) == {7: "mark"}
        write()
        assert journal.services.load_quiet_marks(1, 7, 7) == {}


def test_blocked_service_is_not_quiet(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    journal.services.update(7, blocked_by="guard", quiet_mark="mark")
    assert journal.services.load_quiet_marks(1, 7, 7) == {}


def test_no_mark_is_no_statement(journal: Journal) -> None:
    with counted_statements(statements_of(journal)) as statements:
        journal.services.record_quiet_marks([])
    assert statements == []


# -- open creates


@pytest.mark.parametrize(
    ("outcome", "is_open"),
    [(None, True), (Outcome.UNKNOWN, True), (Outcome.DONE, False), (Outcome.FAILED, False)],
)
def test_create_whose_effect_nobody_knows_is_remembered(
    journal: Journal, outcome: Outcome | None, is_open: bool
) -> None:
    journal.services.note_desired([make_desired(7), make_desired(8)], NOW)
    begun = begin(journal, take(journal), make_step(StepKind.CREATE, "USER_7"), password=PASSWORD)
    if outcome is not None:
        finish(journal, begun, outcome)
    records = journal.services.load([7, 8])
    assert records[7].memory.has_open_create is is_open
    assert records[8].memory.has_open_create is False


@pytest.mark.parametrize("change", [{"server_id": 2}, {"username": "other"}])
def test_open_create_at_another_place_is_not_of_this_account(
    journal: Journal, change: dict[str, object]
) -> None:
    begin(journal, take(journal), make_step(StepKind.CREATE), password=PASSWORD)
    journal.services.note_desired([make_desired(7, **change)], NOW)
    assert journal.services.load([7])[7].memory.has_open_create is False


def test_open_step_that_is_no_create_opens_none(journal: Journal) -> None:
    journal.services.note_desired([make_desired(7)], NOW)
    begin(journal, take(journal), make_step(StepKind.DISABLE))
    assert journal.services.load([7])[7].memory.has_open_create is False


def test_rows_really_stand_in_the_database(place: JournalPlace) -> None:
    place.open().services.note_desired([make_desired(7)], NOW)
    stored = place.query(sa.select(service.c.item_id, service.c.desired_key))
    assert stored == [(7, "user_7")]
    assert place.open().services.get(7) is not None


def test_only_so_many_are_listed_when_there_are_more(journal: Journal) -> None:
    journal.services.note_desired([make_desired(item) for item in range(1, 10)], NOW)
    for item in (2, 3, 5):
        journal.services.update(item, state=ServiceState.BACKOFF.value, blocked_by="it waits")
    listed = journal.services.list_in_states([ServiceState.BACKOFF], limit=2)
    assert [record.item_id for record in listed] == [2, 3]
    assert [record.item_id for record in journal.services.list_blocked(limit=2)] == [2, 3]
    assert [record.item_id for record in journal.services.list_blocked(limit=200)] == [2, 3, 5]


def test_accounts_that_are_ours_are_listed_with_their_services(journal: Journal) -> None:
    journal.services.note_desired([make_desired(item) for item in range(1, 6)], NOW)
    owned = Ownership.CREATED.value
    journal.services.update(1, ownership=owned, account_server_id=1, account_userid="User_1")
    journal.services.update(2, ownership=Ownership.ADOPTED.value, account_server_id=1, account_userid="Юля")
    journal.services.update(3, ownership=owned, account_server_id=2, account_userid="user_3")
    journal.services.update(4, ownership=owned)
    journal.services.update(5, account_server_id=1, account_userid="user_5")
    assert journal.services.list_accounts(1) == {"user_1": 1, "юля": 2}
    assert journal.services.list_accounts(2) == {"user_3": 3}
    assert journal.services.list_accounts(3) == {}
