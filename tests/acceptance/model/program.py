"""The program at work on a `Provider`, its operators, and its deaths; each act is judged by the laws."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any, Final, Self

from nc.errors import CloudError
from reconciler.adoption import adopt_account
from reconciler.application import Application
from reconciler.config import load_config
from reconciler.cycle import CycleReport, run_cycle
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.guards import CAPS, Guard
from reconciler.one_pass import PassResult
from reconciler.operations import (
    OperationRefused,
    approve_cap,
    approve_identity,
    approve_read,
    hold_service,
    lift_quarantine,
    release_service,
)
from reconciler.passwords import reset_password
from tests.acceptance.model.billed import Billed
from tests.acceptance.model.book import Limits
from tests.acceptance.model.endings import Shown, find_faults, find_last_faults
from tests.acceptance.model.laws import judge
from tests.acceptance.model.provider import Provider
from tests.acceptance.model.watched import Ask

_REFUSED: Final = (OperationRefused, LookupError, ServerStopped, CloudError)
_SHOWN: Final = """
    SELECT item_id, state, reason, last_error, blocked_by, blocked_guard, quarantine_reason, stable_at
    FROM service
"""
_TROUBLE: Final = timedelta(minutes=11)
"""How long a server may be left alone after it went wrong: a little more than the longest pause."""

_MOST_ROUNDS: Final = 8


class Crashed(BaseException):
    """The program was killed here."""


class Program:
    """The program as a daemon keeps it, opened anew after each crash; a context manager."""

    def __init__(self, limits: Limits | None = None, policy: Mapping[str, Any] | None = None) -> None:
        self.limits: Final = limits or Limits()
        self.provider: Final = Provider(self.limits, policy or {})
        self._bombs: list[tuple[int, Callable[[], None]]] = []
        self._resetting: int | None = None
        self.app = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.app.close()
        self.provider.close()

    def _open(self) -> Application:
        world = self.provider.world
        return Application(
            load_config(world.land.config_path), clock=lambda: world.now, on_call=lambda *_: self._tick()
        )

    # -- it works

    def look(self, item: int, *, crash_at: int = 0, dies_at: int = 0, lost_at: int = 0) -> PassResult | None:
        """One pass over a service.

        Args:
            item: the service.
            crash_at: the program is killed after so many requests.
            dies_at: the program is killed at the so-many-th half of a write to the journal: before it or
                after it.
            lost_at: after so many requests it sleeps so long that another worker takes the service.
        """
        billed = self.provider.read_billed()
        self._note_read({item}, billed)
        self._learn_servers()
        result = None
        if crash_at:
            self._bombs.append((crash_at, self._crash))
        if lost_at:
            self._bombs.append((lost_at, lambda: self._lose_lease(item)))
        with contextlib.ExitStack() as stack:
            if dies_at:
                stack.enter_context(self._dying(dies_at))
            try:
                result = self.app.reconciler.reconcile_service(item, actor="model")
            except Crashed:
                self.restart()
            assert lost_at or result is None or not result.is_busy
        self._bombs.clear()
        self._free_leases()
        self._settle({item}, billed)
        return result

    def cycle(self, *, is_new: bool = False) -> CycleReport:
        """A full cycle, by the running program as its scans make one, or by another process, as from cron."""
        provider = self.provider
        billed = provider.read_billed()
        healthy = self._list_healthy()
        counted = [one for one in billed.values() if one.server is not None]
        self._note_read({*billed, *provider.items}, billed)
        provider.book.note_full_read(len(counted))
        if is_new:
            with self._open() as app:
                report = run_cycle(app, actor="model")
        else:
            for server in self.app.fleet.refresh():
                server.ask_identity_again()
            report = run_cycle(self.app, actor="model")
        self._settle(set(provider.items), billed)
        faults = find_faults(provider, self.read_shown(), report, healthy & self._list_healthy())
        assert not faults, "\n".join(faults)
        return report

    def restart(self) -> None:
        self.app.close()
        self._bombs.clear()
        self._free_leases()
        self.app = self._open()

    def lose_journal(self) -> None:
        """The journal is gone, its key is not."""
        self.app.close()
        for path in self.provider.folder.glob("journal.db*"):
            path.unlink()
        book, accounts = self.provider.book, self.provider.list_accounts()
        book.forget({(place[0], facts.serial) for place, facts in accounts.items()})
        for item, one in self.provider.read_billed().items():
            account = None if one.place is None else accounts.get(one.place)
            if account is None or one.place is None:
                continue
            if account.password != self.provider.billing.get_password(item):
                book.lost_passwords.add((one.place[0], account.serial))
        self.app = self._open()

    # -- operators

    def hold(self, item: int) -> None:
        with contextlib.suppress(LookupError):
            hold_service(self.app, item, "the model says so", "model")
            self.provider.book.held.add(item)

    def release(self, item: int) -> None:
        with contextlib.suppress(LookupError):
            release_service(self.app, item, "model")
        self.provider.book.held.discard(item)
        self._let_go(item)

    def resync(self, item: int) -> PassResult | None:
        if item not in self.provider.book.held:
            self._let_go(item)
        lift_quarantine(self.app, item)
        return self.look(item)

    def _let_go(self, item: int) -> None:
        """A person says that what went wrong with a service is mended: it begins afresh."""
        if self.provider.book.quarantined.pop(item, None):
            self.provider.book.stable_at[item] = self.provider.world.now.timestamp()

    def approve(self, guard: Guard) -> list[int]:
        items = [each.item_id for each in approve_cap(self.app, guard, None, "model")]
        until = self.provider.world.now + timedelta(hours=1)
        self.provider.book.approved.update({(guard.value, item): until for item in items})
        return items

    def approve_read(self) -> None:
        approve_read(self.app, "model")
        self.provider.book.read_good = self.provider.book.read_seen

    def approve_identity(self, server: int) -> None:
        with contextlib.suppress(OperationRefused):
            approve_identity(self.app, self._get_server(server), "model", None)

    def check_connection(self, server: int) -> None:
        """What an operator does after mending a server: its breaker is closed."""
        self._get_server(server).close_breaker()
        self.provider.troubled_at[server] = 0.0

    def _get_server(self, number: int) -> CloudServer:
        self._learn_servers()
        found = self.app.fleet.get(self.provider.world.land.server_ids[number])
        assert found is not None
        return found

    def _learn_servers(self) -> None:
        if not self.app.fleet.list():
            self.app.fleet.refresh()

    def reset_password(self, item: int) -> bool:
        billed = self.provider.read_billed()
        self._note_read({item}, billed)
        self.app.fleet.refresh()
        self._resetting = item
        try:
            reset_password(self.app, item, "model")
        except _REFUSED:
            return False
        finally:
            self._settle({item}, billed)
            self._resetting = None
        return True

    def adopt(self, item: int, userid: str) -> bool:
        """Give an account to a service; the passes that follow are made, too."""
        billed = self.provider.read_billed()
        self.app.fleet.refresh()
        try:
            items = adopt_account(self.app, item, userid, "model", is_forced=True)
        except _REFUSED:
            self._settle({item}, billed)
            return False
        server = billed[item].server
        assert server is not None
        book, place = self.provider.book, (server, userid.lower())
        book.forget_home(place)
        book.homes[item], book.claims[place] = place, "ours"
        book.quarantined.pop(item, None)
        self._settle({item}, billed)
        for one in items:
            self.look(one)
        return True

    # -- the end

    def end(self) -> None:
        """Everything is mended, whoever waits is let go, time passes: now all must be as sold, and stay so.

        Raises:
            AssertionError: it is not.
        """
        provider = self.provider
        for cloud in provider.clouds:
            provider.heal(cloud.number)
        for item in provider.items:
            self.release(item)
        for number in range(_MOST_ROUNDS):
            provider.world.wait(hours=73)
            self.cycle()
            for cloud in provider.clouds:
                self.approve_identity(cloud.number)
                self.check_connection(cloud.number)
            is_suspicious = provider.book.is_suspicious
            self.approve_read()
            approved = [self.approve(guard) for guard in CAPS]
            if any(approved) or is_suspicious:
                self.cycle()
            if not any(cloud.mutating_calls() for cloud in provider.clouds) and number > 1:
                break
            for cloud in provider.clouds:
                cloud.clear_calls()
        for _ in range(3):
            provider.world.wait(minutes=20)
            self.cycle(is_new=True)
        again = [str(call) for cloud in provider.clouds for call in cloud.mutating_calls()]
        assert not again, f"it does not come to rest: {again}"
        faults = find_last_faults(provider, self.read_shown())
        assert not faults, "\n".join(faults)

    # -- what became of it

    def read_shown(self) -> dict[int, Shown]:
        """What the program tells of each service."""
        with closing(sqlite3.connect(self.provider.journal_path, timeout=30)) as connection:
            return {row[0]: Shown(*row) for row in connection.execute(_SHOWN)}

    def _list_healthy(self) -> set[int]:
        """Servers that are all right, and long enough for the program to know."""
        provider, now = self.provider, self.provider.world.now.timestamp()
        for cloud in provider.clouds:
            if not provider.is_healthy(cloud.number):
                provider.troubled_at[cloud.number] = now
        with closing(sqlite3.connect(provider.journal_path, timeout=30)) as connection:
            known = dict(connection.execute("SELECT server_id, instance_id FROM server").fetchall())
        return {
            cloud.number
            for cloud in provider.clouds
            if now - provider.troubled_at[cloud.number] > _TROUBLE.total_seconds()
            and known.get(cloud.server_id) in {None, cloud.instance_id}
        }

    def _note_read(self, items: set[int], billed: dict[int, Billed]) -> None:
        self.provider.witness.turn += 1
        self._list_healthy()
        for item in items:
            self.provider.book.note_read(billed.get(item), item, self.provider.world.now)

    def _settle(self, items: set[int], billed: dict[int, Billed]) -> None:
        """Judge what has been asked of the servers, and learn from it.

        Raises:
            AssertionError: a law was broken.
        """
        provider, book = self.provider, self.provider.book
        self._list_healthy()
        for event in provider.witness.take():
            if isinstance(event, Ask):
                api_user = provider.clouds[event.server].admin_user
                wrong = judge(event, book, api_user, self._resetting)
                assert not wrong, f"{event}: {'; '.join(wrong)}"
            book.note(event, billed)
        found, ledger = provider.list_accounts(), provider.witness.ledger
        changed = [place for place in found.keys() | ledger.keys() if found.get(place) != ledger.get(place)]
        assert not changed, f"nobody has asked for this: {[(found.get(p), ledger.get(p)) for p in changed]}"
        self._learn(items, billed)

    def _learn(self, items: set[int], billed: dict[int, Billed]) -> None:
        book, shown, accounts = self.provider.book, self.read_shown(), self.provider.list_accounts()
        for item in items:
            row, one = shown.get(item), billed.get(item)
            place = None if one is None else one.place
            account = None if place is None else accounts.get(place)
            if row is None or one is None or place is None:
                continue
            if account is not None and one.is_named and one.wish != "none" and place not in book.claims:
                book.claims[place] = "ours"  # the program may have adopted it
                book.likely_homes[item] = place
            if row.stable_at is not None:
                book.stable_at[item] = row.stable_at
            if row.state in {"active", "suspended"} and account is not None:
                life = place[0], account.serial
                book.complete.add(life)
                if (one.email or "").lower() == account.email.lower():
                    book.emails.setdefault(life, set()).add(account.email.lower())
            if row.quarantine_reason is None:
                book.quarantined.pop(item, None)
            else:
                book.quarantined.setdefault(item, one.mark)

    # -- it dies

    def _tick(self) -> None:
        """A request was answered."""
        bombs, self._bombs = self._bombs, []
        for left, act in bombs:
            if left > 1:
                self._bombs.append((left - 1, act))
        for left, act in bombs:
            if left == 1:
                act()

    def _crash(self) -> None:
        self._bombs = [(1, self._crash)]  # it stays dead
        raise Crashed

    @contextlib.contextmanager
    def _dying(self, at: int) -> Iterator[None]:
        store = self.app.journal.services._store
        write, halves = store.write, 0

        @contextlib.contextmanager
        def die(**options: Any) -> Iterator[Any]:
            nonlocal halves
            halves += 1
            if halves >= at:
                raise Crashed
            with write(**options) as connection:
                yield connection
            halves += 1
            if halves >= at:
                raise Crashed

        store.write = die  # type: ignore[method-assign]
        try:
            yield
        finally:
            store.write = write  # type: ignore[method-assign]

    def _lose_lease(self, item: int) -> None:
        """The program slept for long; another worker, on another host, has the service now."""
        self.provider.world.wait(seconds=1000)
        until = self.provider.world.now.timestamp() + 900
        self._write_journal(
            "UPDATE lease SET holder = 'elsewhere', epoch = epoch + 1, expires_at = ? WHERE item_id = ?",
            until,
            item,
        )

    def _free_leases(self) -> None:
        """Nobody else is there any more; a dead process's lease is taken over at once."""
        self._write_journal("UPDATE lease SET expires_at = 0")

    def _write_journal(self, statement: str, *values: object) -> None:
        if self.provider.journal_path.exists():
            with closing(sqlite3.connect(self.provider.journal_path, timeout=30)) as connection, connection:
                connection.execute(statement, values)
