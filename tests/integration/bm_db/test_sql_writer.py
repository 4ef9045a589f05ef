"""Writing by SQL: credentials on the service's card."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from bm_db import Card, SqlWriter, errors
from tests.integration.bm_db.conftest import BillingUnderTest


def count_rows(world: BillingUnderTest, table_name: str) -> int:
    with world.engine.connect() as connection:
        return int(
            connection.execute(select(func.count()).select_from(world.sandbox.table(table_name))).scalar_one()
        )


def test_credentials_are_saved_and_read_back(world: BillingUnderTest) -> None:
    item_id, other = (
        world.sell(),
        world.sell(username="other", url="https://other", userpassword="other password"),
    )
    SqlWriter(world.billing).write_credentials(
        item_id, username="user_1", password="Pä'ss\"wörd; --", url="https://one.example.net/"
    )
    assert world.sandbox.get_params(item_id) == {"username": "user_1", "url": "https://one.example.net/"}
    assert world.sandbox.get_password(item_id) == "Pä'ss\"wörd; --"
    service = world.read(item_id)
    assert (service.username, service.password, service.is_url_recorded) == (
        "user_1",
        "Pä'ss\"wörd; --",
        True,
    )
    assert world.sandbox.get_params(other) == {"username": "other", "url": "https://other"}
    assert world.sandbox.get_password(other) == "other password"


def test_card_is_saved_and_read_back(world: BillingUnderTest) -> None:
    item_id, other = world.sell(), world.sell()
    writer = SqlWriter(world.billing)
    writer.write_card(item_id, Card(state="работает", used="1,5 ГБ"))
    writer.write_card(item_id, Card(used="2 ГБ"))
    cards = world.billing.get_cards([item_id, other])
    assert cards == {item_id: Card("работает", "2 ГБ"), other: Card()}
    assert world.read(item_id).card_state == "работает"
    assert world.read(other).card_state is None
    assert count_rows(world, "itemparam") == 2, "nothing is there twice"
    with pytest.raises(errors.ServiceMissing):
        writer.write_card(4711, Card(state="работает"))


def test_card_changes_nothing_of_what_is_wanted(world: BillingUnderTest) -> None:
    item_id = world.sell()
    tracker = world.billing.track_changes(rare_every=1)
    tracker.poll()
    before = world.read(item_id)
    SqlWriter(world.billing).write_card(item_id, Card(state="работает", used="2 ГБ"))
    assert tracker.poll().items == frozenset()
    assert replace(world.read(item_id), card_state=None) == before


def test_password_never_stands_in_the_clear(world: BillingUnderTest) -> None:
    SqlWriter(world.billing).write_credentials(world.sell(), password="Visible-Password-1")
    with world.engine.connect() as connection:
        values = (
            connection.execute(select(world.sandbox.table(world.sandbox.crypted_table).c.value))
            .scalars()
            .all()
        )
    assert values
    assert all("Visible" not in str(value) for value in values)


def test_saving_again_changes_nothing(world: BillingUnderTest) -> None:
    item_id = world.sell()
    writer = SqlWriter(world.billing)

    def save() -> list[object]:
        writer.write_credentials(item_id, username="user_1", password="Secret-Password-1", url="https://one")
        tables = {"itemparam", world.sandbox.crypted_table}
        with world.engine.connect() as connection:
            return [
                connection.execute(select(world.sandbox.table(name)).order_by("id")).all()
                for name in sorted(tables)
            ]

    assert save() == save()


def test_only_what_is_given_is_saved(world: BillingUnderTest) -> None:
    item_id = world.sell(username="anna", url="https://one", userpassword="Secret-Password-1")
    SqlWriter(world.billing).write_credentials(item_id, url="https://two")
    assert world.sandbox.get_params(item_id) == {"username": "anna", "url": "https://two"}
    assert world.sandbox.get_password(item_id) == "Secret-Password-1"


def test_existing_values_are_replaced_also_when_recorded_twice_or_unreadable(world: BillingUnderTest) -> None:
    item_id = world.sell(username="anna")
    for value in ("berta", None):
        world.sandbox.insert("itemparam", item=item_id, intname="username", value=value)
    for value in ("broken", None):
        world.sandbox.insert(world.sandbox.crypted_table, item=item_id, intname="userpassword", value=value)
    SqlWriter(world.billing).write_credentials(item_id, username="clara", password="Secret-Password-2")
    service = world.read(item_id)
    assert (service.username, service.password, service.faults) == ("clara", "Secret-Password-2", ())


def test_status_is_never_touched(world: BillingUnderTest) -> None:
    item_id = world.sell(status=5)
    writer = SqlWriter(world.billing)
    assert writer.can_write is True
    assert writer.write_operation_done(item_id, "open") is False
    assert world.sandbox.get_status(item_id) == 5


def test_missing_service_is_an_error_and_nothing_is_written(world: BillingUnderTest) -> None:
    with pytest.raises(errors.ServiceMissing, match="service 4711"):
        SqlWriter(world.billing).write_credentials(4711, username="x", password="y", url="z")
    assert count_rows(world, "itemparam") == 0


def test_control_characters_are_refused_before_anything_is_written(live: BillingUnderTest) -> None:
    item_id = live.sell()
    for value in ("a\0b", "a\nb", "a\x7fb", "\ud800", "x" * 5000):
        for name in ("username", "password", "url"):
            with pytest.raises(errors.ValueRefused) as caught:
                SqlWriter(live.billing).write_credentials(item_id, **{"username": "fine", name: value})
            assert "\n" not in str(caught.value)
            assert value not in str(caught.value)
    assert live.sandbox.get_params(item_id) == {}


def test_all_or_nothing_is_saved(world: BillingUnderTest) -> None:
    item_id = world.sell()
    with pytest.raises(errors.ValueRefused):
        # Too long for the key: found out only after the user name was written.
        SqlWriter(world.billing).write_credentials(item_id, username="anna", password="x" * 300)
    with pytest.raises(errors.PrivateKeyUnusable, match="private_key_file"):
        SqlWriter(world.open(private_key_pem=None)).write_credentials(item_id, username="anna", password="x")
    assert world.sandbox.get_params(item_id) == {}


def test_writers_at_the_same_time_leave_one_row(world: BillingUnderTest) -> None:
    item_id = world.sell()
    start = threading.Barrier(4)
    failures: list[errors.BillingError] = []

    def write() -> None:
        try:
            start.wait()
            SqlWriter(world.billing).write_credentials(item_id, username="anna", password="Secret-Password-1")
        except errors.BillingError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count_rows(world, "itemparam") == (1 if world.sandbox.variant == "live" else 2)


def test_writing_goes_on_while_a_listing_is_open(world: BillingUnderTest) -> None:
    item_ids = [world.sell() for _ in range(3)]
    listing = world.billing.list_services(chunk_size=1)
    assert next(listing).item_id == item_ids[0]
    SqlWriter(world.billing).write_credentials(item_ids[2], username="anna")
    # The listing still shows the moment it began.
    assert [service.is_username_recorded for service in listing] == [False, False]
    assert world.read(item_ids[2]).username == "anna"


def test_repr_names_the_database_and_no_secret(live: BillingUnderTest) -> None:
    assert "billing database" in repr(SqlWriter(live.billing))
