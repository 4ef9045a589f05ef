"""A provider with some emulated clouds, and our program's fleet over it: for fleet and diagnosis tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bm_db import Billing, open_billing
from nc import ApiCall
from reconciler.config import load_config
from reconciler.fleet import CloudServer, Fleet, ServerStopped
from reconciler.journal import Journal, ServerRecord, open_journal
from reconciler.sandbox.emulator import CloudEmulator
from reconciler.sandbox.landscape import Landscape
from tests.unit.reconciler.samples import FakeClock


class World:
    """A provider with some clouds, and as many runs of our program over it as a test wants."""

    def __init__(self, folder: Path, key: bytes, clouds: list[CloudEmulator]) -> None:
        self.landscape = Landscape(folder, clouds, private_key_pem=key)
        self.folder = folder
        self.key = key
        self.clock = FakeClock()
        self.calls: list[tuple[int, ApiCall]] = []
        self._closing = contextlib.ExitStack()
        self.fleet = self.start()
        self.journal: Journal

    @property
    def cloud(self) -> CloudEmulator:
        return self.landscape.clouds[0]

    @property
    def server(self) -> CloudServer:
        """The first server, as the latest read of billing has it."""
        found = self.fleet.get(self.landscape.server_ids[0])
        assert found is not None
        return found

    @property
    def record(self) -> ServerRecord:
        return self.journal.servers.get(self.server.id)

    def start(self) -> Fleet:
        """Start our program (again): everything is opened anew, the journal's file stays."""
        config = load_config(self.landscape.config_path)
        billing: Billing = open_billing(self.landscape.database_url, password=None, private_key_pem=self.key)
        self._closing.callback(billing.close)
        self.journal = open_journal(config.reconciler.journal_url, config.reconciler.journal_key_file)
        self._closing.callback(self.journal.close)
        self.fleet = Fleet(
            billing, self.journal, config, self.clock, lambda server, call: self.calls.append((server, call))
        )
        self._closing.callback(self.fleet.close)
        self.fleet.refresh()
        return self.fleet

    def set_param(self, table: str, name: str, value: str, server: int = 0) -> None:
        """Change a parameter of a server as a person does in BILLmanager."""
        billing = self.landscape.billing
        target = billing.table(table)
        with billing.engine.begin() as connection:
            connection.execute(
                target.update()
                .where(
                    target.c.processingmodule == self.landscape.server_ids[server], target.c.intname == name
                )
                .values(value=value)
            )

    def set_password(self, password: str) -> None:
        encrypted = self.landscape.billing.cipher.encrypt(password)
        self.set_param("processingcryptedparam", "nc_password", encrypted)

    def close(self) -> None:
        self._closing.close()
        self.landscape.close()


Maker = Callable[..., World]
"""Makes a world of the given clouds; of one Nextcloud when there are none."""


def stop_of(server: CloudServer) -> ServerStopped:
    """Why the server may not be called."""
    with pytest.raises(ServerStopped) as caught:
        server.ensure_ready()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"server {server.id} ({server.name})")
    return caught.value
