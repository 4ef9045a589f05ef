"""An emulated server as a process: ``python -m reconciler.sandbox.emulator``.

Prints one JSON line (base_url, admin_user, admin_password, instance_id) once it listens, and ends
cleanly on SIGTERM, on SIGINT and, with ``--stop-with-stdin``, when its standard input closes.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Literal

from reconciler.process import obey_signals
from reconciler.sandbox.emulator import CloudEmulator

GIB = 1024**3


def _read_limit(text: str) -> int | Literal["product"] | None:
    if text == "none":
        return None
    return "product" if text == "product" else int(text)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reconciler.sandbox.emulator",
        description="Run an emulated Nextcloud or ownCloud server on 127.0.0.1.",
    )
    parser.add_argument("--product", choices=("nextcloud", "owncloud"), default="nextcloud")
    parser.add_argument("--version", help="product version, for example 27.1.0")
    parser.add_argument("--path", default="", help="where it lives below the host, for example /cloud")
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    parser.add_argument("--accounts", type=int, default=0, help="accounts to begin with: user00000, …")
    parser.add_argument("--quota", default=str(5 * GIB), help="their quota, as it would be sent")
    parser.add_argument("--group", help="a group that all of them belong to")
    parser.add_argument("--admin-user", default="admin")
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--login-seconds", type=float, default=0.0, help="cost of a password check")
    parser.add_argument(
        "--account-seconds", type=float, default=0.0, help="cost of each account of a list with details"
    )
    parser.add_argument(
        "--edit-limit", type=_read_limit, default="product", help="edits in ten minutes, or none"
    )
    parser.add_argument("--stop-with-stdin", action="store_true", help="end when standard input closes")
    return parser


def fill(emulator: CloudEmulator, count: int, *, quota: str, group: str | None = None) -> None:
    """Add accounts user00000, user00001, … that have logged in and use a little space."""
    groups = [] if group is None else [group]
    for number in range(count):
        userid = f"user{number:05}"
        emulator.add_account(
            userid,
            quota=quota,
            email=f"{userid}@example.com",
            groups=groups,
            used_bytes=4096 + number,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; the process's exit code."""
    options = build_parser().parse_args(arguments)
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        obey_signals(lambda _: stop.set(), signal.SIGTERM, signal.SIGINT)
    emulator = CloudEmulator(
        options.product,
        version=options.version,
        path=options.path,
        port=options.port,
        latency_seconds=options.latency_seconds,
        login_seconds=options.login_seconds,
        edit_limit=options.edit_limit,
        admin_user=options.admin_user,
    )
    emulator.settings.account_seconds = options.account_seconds
    fill(emulator, options.accounts, quota=options.quota, group=options.group)
    if options.stop_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(stop,), daemon=True).start()
    with emulator:
        ready = {
            "base_url": emulator.base_url,
            "admin_user": emulator.admin_user,
            "admin_password": emulator.admin_password,
            "instance_id": emulator.instance_id,
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _stop_with_stdin(stop: threading.Event) -> None:
    while sys.stdin.buffer.readline():
        pass  # whatever is written is not ours to read; only its end counts
    stop.set()
