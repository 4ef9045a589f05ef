"""Accounts that no service names: `reconciler orphans`. Changes nothing, anywhere.

Every server is listed now, in bulk: an account that is told was there, one that came or went meanwhile may be
missed. On ownCloud administrators of single groups cannot be told from other accounts in bulk.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from nc.errors import CloudError
from reconciler.application import Application
from reconciler.diagnosis import tell
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.journal import make_key
from reconciler.scan import DesiredRead, is_our_name, read_desired
from states import ObservedAccount, explain_protection

_MOST_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Orphan:
    """An account that no service names.

    Attributes:
        server_id: where it is; None when the journal does not know.
        userid: its name.
        item_id: the service whose account it was, by the journal; None for none.
        is_administrator: it is never touched; None when the server did not say.
        is_there: False for an account that only the journal knows; None when its server could not be listed.
        why: one line.
    """

    server_id: int | None
    userid: str
    item_id: int | None
    is_administrator: bool | None
    is_there: bool | None
    why: str

    @property
    def is_candidate(self) -> bool:
        """Whether somebody may have to do something about it."""
        return not self.is_administrator and self.is_there is not False


@dataclass(slots=True)
class OrphanReport:
    """All of them.

    Attributes:
        orphans: by server and name.
        errors: why a server could not be listed, by its name.
    """

    orphans: list[Orphan] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


def find_orphans(app: Application, *, server_id: int | None = None, is_all: bool = False) -> OrphanReport:
    """List accounts that no service names.

    Args:
        app: the parts.
        server_id: only on this server.
        is_all: all of them, administrators too; else those that look like ours (``user_<number>``) and those
            of services that vanished from billing.

    Raises:
        LookupError: there is no such server.
        BillingError, JournalError: as they say.
    """
    servers = app.fleet.refresh()
    if server_id is not None:
        servers = [server for server in servers if server.id == server_id]
        if not servers:
            raise LookupError(f"billing has no server {server_id} of our module")
    search = _Search(app, read_desired(app, is_dry_run=True), is_all=is_all)
    search.list_accounts(servers)
    search.add_vanished(server_id)
    return search.report


class _Search:
    def __init__(self, app: Application, read: DesiredRead, *, is_all: bool) -> None:
        self._app: Final = app
        self._read: Final = read
        self._is_all: Final = is_all
        self.report: Final = OrphanReport()
        self._listed: Final = set[int]()

    def list_accounts(self, servers: list[CloudServer]) -> None:
        """Accounts on the servers, several servers at once."""
        with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(servers) or 1)) as pool:
            for orphans in pool.map(self._search, servers):
                self.report.orphans += orphans

    def add_vanished(self, server_id: int | None) -> None:
        """Accounts that only the journal still knows: their service is gone, and they were not listed."""
        found = {(orphan.server_id, make_key(orphan.userid)) for orphan in self.report.orphans}
        self.report.orphans += [
            orphan
            for orphan in self._list_vanished()
            if server_id in {None, orphan.server_id}
            and (orphan.server_id, make_key(orphan.userid)) not in found
        ]
        self.report.orphans.sort(key=lambda orphan: (orphan.server_id or 0, make_key(orphan.userid)))

    def _search(self, server: CloudServer) -> list[Orphan]:
        services = self._app.journal.services
        named, owned = self._read.get_keys(server.id), services.list_accounts(server.id).keys()

        def is_asked(userid: str) -> bool:
            key = make_key(userid)
            return key not in named and (self._is_all or key in owned or is_our_name(key))

        try:
            server.ensure_ready()
            with server.calling():
                accounts = server.client.list_accounts(only=is_asked)
                strangers = [account for account in accounts if is_asked(account.userid)]
        except (ServerStopped, CloudError) as error:
            self.report.errors[str(server)] = tell(server, error)
            return []
        self._listed.add(server.id)
        owners = services.list_accounts(server.id)  # anew: some may have been made meanwhile
        judged = [self._judge(server, account, owners.get(make_key(account.userid))) for account in strangers]
        return [orphan for orphan in judged if orphan is not None]

    def _judge(self, server: CloudServer, account: ObservedAccount, owner_id: int | None) -> Orphan | None:
        protection = explain_protection(account, server.api_user)
        is_administrator = None if account.groups is None and protection is None else protection is not None
        if is_administrator and not self._is_all:
            return None
        why = "no service names it"
        if owner_id is not None:
            owner = self._app.billing.get_service(owner_id)
            if owner is None:
                why = f"service {owner_id} is gone from billing"
            elif owner.server_id == server.id and make_key(owner.username) == make_key(account.userid):
                return None  # sold after billing was read
            else:
                why = f"service {owner_id} is {owner.username} on server {owner.server_id} now"
        return Orphan(server.id, account.userid, owner_id, is_administrator, True, protection or why)

    def _list_vanished(self) -> Iterator[Orphan]:
        services = self._app.journal.services
        present = {desired.item_id for group in self._read.services.values() for desired in group}
        gone = sorted(services.list_remembered_ids() - present)
        for item_id, record in services.load(gone).items():
            server_id, userid = record.memory.server_id, record.memory.userid
            if userid is None or self._app.billing.get_service(item_id) is not None:
                continue
            is_there = False if server_id in self._listed else None
            yield Orphan(
                server_id, userid, item_id, None, is_there, f"service {item_id} is gone from billing"
            )
