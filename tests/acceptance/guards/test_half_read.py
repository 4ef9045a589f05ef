"""The connection to billing is lost while all services are read: nothing is concluded from the first half."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bm_db.errors import BillingError
from reconciler.application import Application
from reconciler.cycle import run_cycle
from reconciler.sandbox.billing_schema import Variant
from reconciler.scan import find_vanished, read_desired, scan_server
from states import DesiredService
from tests.acceptance.conftest import MakeWorld
from tests.acceptance.evidence import dump_rows
from tests.acceptance.guards.mishaps import sell
from tests.databases import DatabaseServer

KINDS: list[tuple[str, Variant]] = [("mariadb", "live"), ("postgres", "spec")]
HALF = 6


def cut_connections(server: DatabaseServer, database: str) -> int:
    """End every connection to a database from the server's side, as an administrator or a restart does."""
    if server.kind == "mariadb":
        find, end = "SELECT id FROM information_schema.processlist WHERE db = %s", "KILL CONNECTION {}"
    else:
        find, end = "SELECT pid FROM pg_stat_activity WHERE datname = %s", "SELECT pg_terminate_backend({})"
    connection = server.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(find, (database,))
        ids = [row[0] for row in cursor.fetchall()]
        for each in ids:
            cursor.execute(end.format(each))
    return len(ids)


def lose_connection(app: Application, cut: Callable[[], int]) -> None:
    """Have the next complete read lose its connection half way."""
    original = app.billing.list_services

    @functools.wraps(original)
    def list_services(**options: Any) -> Iterator[DesiredService]:
        for number, desired in enumerate(original(**{**options, "chunk_size": 2}), start=1):
            yield desired
            if number == HALF:
                app.billing.list_services = original  # type: ignore[method-assign]
                assert cut() > 0

    app.billing.list_services = list_services  # type: ignore[method-assign]


@pytest.mark.parametrize(("kind", "variant"), KINDS, ids=[kind for kind, _ in KINDS])
def test_nothing_is_concluded_from_half_a_read(
    request: pytest.FixtureRequest, make_world: MakeWorld, kind: str, variant: Variant
) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    world = make_world(kind=kind, variant=variant)
    items = [sell(world) for _ in range(2 * HALF)]
    world.once()
    database = world.land.database_url.rpartition("/")[2]
    journal = f"sqlite:///{world.land.folder / 'journal.db'}"
    world.billing.set_status(items[0], 3)
    world.billing.set_status(items[-1], 3)
    world.billing.engine.dispose()  # it sleeps; only the program's own connections are to be cut
    before = dump_rows(journal)
    world.nextcloud.clear_calls()

    with world.open() as app:
        cut = functools.partial(cut_connections, server, database)
        lose_connection(app, cut)
        with pytest.raises(BillingError):
            run_cycle(app)
        cloud = app.fleet.list()[0]
        for read in (
            lambda: read_desired(app),
            lambda: scan_server(app, cloud, lambda: read_desired(app, server_id=cloud.id)),
            lambda: find_vanished(app, read_desired(app, server_id=cloud.id), server_id=cloud.id),
        ):
            lose_connection(app, cut)
            with pytest.raises(BillingError):
                read()
        assert world.nextcloud.mutating_calls() == []
        assert dump_rows(journal) == before, "not even how many services there are"
        run_cycle(app)  # the same program goes on once the database is back
    accounts = {item: world.get_account(item) for item in items}
    disabled = [item for item, account in accounts.items() if account is None or not account.is_enabled]
    assert disabled == [items[0], items[-1]]
    assert world.once().is_converged
