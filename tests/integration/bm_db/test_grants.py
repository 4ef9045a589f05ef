"""The rights that the README asks for are enough, and what is missing is told with its GRANT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date

import pytest

from bm_db import Billing, SqlWriter, Usage, errors, open_billing
from tests.databases import DatabaseServer
from tests.integration.bm_db.conftest import EVERYWHERE, BillingUnderTest, Maker

DAY = date(2026, 3, 9)
ON_SERVERS = [(variant, kind) for variant, kind in EVERYWHERE if kind != "sqlite"]


class Reader:
    """A database user of our own who may read all tables but one, and nothing else."""

    def __init__(self, world: BillingUnderTest, server: DatabaseServer) -> None:
        self.world = world
        self.kind = server.kind
        self._server = server
        self._database: str = str(world.engine.url.database)
        self._name = f"r_{self._database}"
        if self.kind == "mariadb":
            self._user = f"{self._name}@'127.0.0.1'"
            self.run(f"CREATE USER {self._user}")
        else:
            self._user = self._name
            self.run(f"CREATE ROLE {self._user} LOGIN")
        for table in world.sandbox._metadata.tables:
            if table != "itemstat":
                self.grant("SELECT", table)

    def run(self, *statements: str) -> None:
        self._server.execute(*statements, database=self._database)

    def grant(self, rights: str, table: str) -> None:
        quoted = f"`{table}`" if self.kind == "mariadb" else f'"{table}"'
        self.run(f"GRANT {rights} ON {quoted} TO {self._user}")
        if "INSERT" in rights and self.kind == "postgres":
            self.run(f"GRANT USAGE ON SEQUENCE {table}_id_seq TO {self._user}")

    def open(self) -> Billing:
        url = self._server.get_url(self._database, user=self._name)
        return open_billing(url, password=None, private_key_pem=self.world.private_key_pem)

    def drop(self) -> None:
        if self.kind == "postgres":
            self.run(f"DROP OWNED BY {self._user}")
        self.run(f"DROP USER {self._user}")


@pytest.fixture(params=ON_SERVERS, ids="-".join)
def reader(request: pytest.FixtureRequest, make_billing: Maker) -> Iterator[Reader]:
    variant, kind = request.param
    made = Reader(make_billing(variant, kind), request.getfixturevalue(kind))
    yield made
    made.drop()


def test_select_is_enough_to_read_and_to_watch(reader: Reader) -> None:
    item_id = reader.world.sell(username="anna", quota_gb="3", userpassword="Secret-Password-1")
    with closing(reader.open()) as billing:
        [service] = billing.list_services()
        assert (service.item_id, service.password, service.faults) == (item_id, "Secret-Password-1", ())
        assert [server.faults for server in billing.list_servers()] == [()]
        tracker = billing.track_changes()
        assert tracker.poll().is_first
        reader.world.sandbox.set_status(item_id, 3)
        assert tracker.poll().items == {item_id}


def test_usage_needs_three_rights_on_one_table_and_names_them(reader: Reader) -> None:
    item_id = reader.world.sell(10)
    with closing(reader.open()) as billing:
        writer = SqlWriter(billing)

        def write() -> int:
            return writer.write_usage(reader.world.server_id, DAY, [Usage(item_id, 1, 2)])

        for rights in ("SELECT", "INSERT"):
            with pytest.raises(
                errors.BillingError, match="GRANT SELECT, INSERT, UPDATE ON itemstat"
            ) as caught:
                write()
            assert not caught.value.is_transient
            assert "\n" not in str(caught.value)
            reader.grant(rights, "itemstat")
        with pytest.raises(errors.BillingAccessDenied, match="UPDATE ON itemstat"):
            write()
        reader.grant("UPDATE", "itemstat")
        assert write() == (3 if reader.world.sandbox.variant == "live" else 2)
        assert write() == 0


def test_credentials_by_sql_need_what_the_readme_says(reader: Reader) -> None:
    item_id = reader.world.sell()
    with closing(reader.open()) as billing:
        for table in {"itemparam", reader.world.sandbox.crypted_table}:
            reader.grant("INSERT, UPDATE", table)
        if reader.kind == "postgres":  # to hold the service's row; nothing in it is changed
            reader.grant("UPDATE (id)", "item")
        SqlWriter(billing).write_credentials(item_id, username="anna", password="Secret-Password-1")
    assert reader.world.sandbox.get_params(item_id) == {"username": "anna"}
