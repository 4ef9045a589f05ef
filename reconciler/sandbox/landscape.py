"""A whole small provider on this machine: billing database, cloud servers, configuration.

Used by the demo, the acceptance tests and the benchmarks, so that what is shown, tested and measured
is the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from reconciler.sandbox.billing_data import SandboxBilling, generate_private_key_pem, open_sandbox_engine
from reconciler.sandbox.billing_schema import Variant
from reconciler.sandbox.emulator import CloudEmulator


class Landscape:
    """Everything a run needs, in one folder; the emulators listen while it is open.

    Attributes:
        billing: BILLmanager's database, to be changed as BILLmanager and its clients would.
        clouds: the emulated servers.
        server_ids: processingmodule ids of the clouds, in the same order.
        config_path: a config.toml for it.
    """

    def __init__(
        self,
        folder: Path,
        clouds: Sequence[CloudEmulator],
        *,
        database_url: str | None = None,
        variant: Variant = "live",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        private_key_pem: bytes | None = None,
    ) -> None:
        """Make database, key and configuration, and start the clouds.

        Args:
            folder: where all files go.
            clouds: emulators that were not started yet.
            database_url: an empty database; by default a new SQLite file.
            variant: live or spec schema.
            settings: configuration keys by section, over the sandbox's own.
            private_key_pem: BILLmanager's key; by default a new one.
        """
        self.folder: Final = folder
        self.clouds: Final = list(clouds)
        self.database_url: Final = database_url or f"sqlite:///{folder / 'billmgr.db'}"
        key = private_key_pem or generate_private_key_pem()
        self._write_secret("billmgr.pem", key)
        self._engine: Final = open_sandbox_engine(self.database_url)
        self.billing: Final = SandboxBilling(self._engine, variant, key)
        for cloud in self.clouds:
            cloud.start()
        self.server_ids: Final = [
            self.billing.add_server(
                f"{cloud.product}-{number}", cloud.base_url, cloud.admin_user, cloud.admin_password
            )
            for number, cloud in enumerate(self.clouds, start=1)
        ]
        self.config_path: Final = folder / "config.toml"
        self.configure(settings or {})

    def configure(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the configuration anew.

        Args:
            settings: keys by section, over the sandbox's own (SQL writer, fast pace).
        """
        sections: dict[str, dict[str, Any]] = {
            "billmanager": {
                "database_url": self.database_url,
                "private_key_file": str(self.folder / "billmgr.pem"),
                "writer": "sql",
            },
            "reconciler": {
                "journal_url": f"sqlite:///{self.folder / 'journal.db'}",
                "journal_key_file": str(self.folder / "journal.key"),
            },
            "nextcloud": {"requests_per_second": 10_000.0, "timeout": "20s", "connect_timeout": "5s"},
        }
        for section, values in settings.items():
            sections.setdefault(section, {}).update(values)
        lines = []
        for section, values in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {_to_toml(value)}" for name, value in values.items()]
        self.config_path.write_text("\n".join(lines) + "\n", "utf-8")

    def close(self) -> None:
        """Stop the clouds and give up the database."""
        for cloud in self.clouds:
            cloud.stop()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_secret(self, name: str, content: bytes) -> None:
        descriptor = os.open(self.folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def find_free_port() -> int:
    """A port of loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _to_toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_to_toml(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
