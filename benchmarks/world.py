"""The worlds that benchmarks measure in: emulated servers in their own processes, and what was sold there."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nc import CloudClient, ServerConnection
from reconciler.sandbox.landscape import Landscape, find_free_port
from tests.databases import running_server


@contextlib.contextmanager
def start_cloud(accounts: int, **options: object) -> Iterator[dict[str, str]]:
    """An emulator process with accounts user00000 … of 5 GB; what it says of itself.

    ``options`` are those of ``python -m reconciler.sandbox.emulator`` (``edit_limit="none"``).
    """
    words = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    command = [sys.executable, "-m", "reconciler.sandbox.emulator", "--accounts", str(accounts)]
    command += [str(word) for option in words.items() for word in option]
    with subprocess.Popen(
        [*command, "--stop-with-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the emulator has no pipes")
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


@contextlib.contextmanager
def mariadb_land(settings: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Landscape]:
    """A landscape on a MariaDB of its own, without any server yet."""
    with (
        running_server("mariadb") as server,
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        Landscape(
            Path(name), [], database_url=server.get_url(server.create_database()), settings=settings
        ) as land,
    ):
        yield land


def sell_anywhere(land: Landscape, count: int) -> None:
    """Sell services by twenty plans on ten servers, which do not answer."""
    billing = land.billing
    plans = [billing.add_plan(f"plan {number}", 5 + number) for number in range(20)]
    urls = [f"http://127.0.0.1:{find_free_port()}" for _ in range(10)]
    servers = [billing.add_server(f"s{number}", url, "a", "b") for number, url in enumerate(urls)]
    billing.add_many_services(count, plan_ids=plans, server_ids=servers, is_recorded=True)


def sell(land: Landscape, cloud: dict[str, str], count: int, name: str = "bench") -> list[int]:
    """Sell one service an account of a server, as an earlier module would have left it; their items."""
    server_id = land.billing.add_server(name, cloud["base_url"], cloud["admin_user"], cloud["admin_password"])
    plan_id = land.billing.add_plan("5 GB", 5)
    items = list(land.billing.add_many_services(count, plan_ids=[plan_id], server_ids=[server_id]))
    land.billing.insert_many(
        "itemparam",
        (
            {"item": item, "intname": parameter, "value": value}
            for number, item in enumerate(items)
            for parameter, value in (("username", f"user{number:05}"), ("url", cloud["base_url"]))
        ),
    )
    return items


def open_client(cloud: dict[str, str]) -> CloudClient:
    """A client without a pace."""
    return CloudClient(
        ServerConnection(
            cloud["base_url"], cloud["admin_user"], cloud["admin_password"], requests_per_second=10_000.0
        )
    )
