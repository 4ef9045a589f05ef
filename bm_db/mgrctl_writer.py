"""Writing through mgrctl, BILLmanager's own command line: the supported way.

``mgrctl -m billmgr -o json FUNCTION key=value …``; exit code 0 and no ``error`` in the answer is done. No
shell is involved, and every argument after the function begins with a fixed key, so no value can become an
option or another key. It has no function for usage, which is written by SQL.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import IO, Final

from bm_db.billing import Billing
from bm_db.cards import Card, name_card_values
from bm_db.errors import ValueRefused, WriteFailed, WriterUnavailable, WriteTimedOut
from bm_db.operations import OPERATION_WISHES
from bm_db.service_rows import PASSWORD, URL, USERNAME
from bm_db.usage_writer import Usage, write_usage
from bm_db.values import make_one_line, show
from bm_db.written_values import check_written_value

DEFAULT_MGRCTL: Final = "/usr/local/mgr5/sbin/mgrctl"
_ANSWER_BYTES: Final = 1024 * 1024
_MESSAGE_CHARACTERS: Final = 200
# Nothing of the daemon's own environment (credentials among it) reaches the child.
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


class MgrctlWriter:
    """Saves credentials and ends operations by calling mgrctl. Thread-safe: every call is its own process."""

    can_write = True

    def __init__(
        self, billing: Billing, path: str | Path = DEFAULT_MGRCTL, timeout_seconds: float = 60.0
    ) -> None:
        """Name the program; it is first run by the first write.

        Args:
            billing: usage is written over its connections.
            path: of mgrctl.
            timeout_seconds: for one call; then the program and its children are killed.
        """
        self._billing = billing
        self._path = str(path)
        self._timeout_seconds = timeout_seconds

    def __repr__(self) -> str:
        return f"MgrctlWriter({self._path!r})"

    def write_credentials(
        self,
        item_id: int,
        *,
        username: str | None = None,
        password: str | None = None,
        url: str | None = None,
    ) -> None:
        """Save each given value by service.saveparam, one call each; BILLmanager encrypts the password.

        Raises:
            ValueRefused: a value holds control characters or is too long; nothing was called.
            WriterUnavailable: mgrctl cannot be run.
            WriteTimedOut: no answer in time.
            WriteFailed: BILLmanager answered an error or something else than JSON.
        """
        self._save(item_id, {USERNAME: username, PASSWORD: password, URL: url})

    def write_card(self, item_id: int, card: Card) -> None:
        """Save each text by service.saveparam.

        Raises:
            WriteFailed: as for `write_credentials`.
        """
        self._save(item_id, name_card_values(card))

    def _save(self, item_id: int, values: Mapping[str, str | None]) -> None:
        """Save each value that there is, by a call of its own; none when one of them must not be written."""
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            check_written_value(name, value)
        for name, value in given.items():
            is_secret = name == PASSWORD
            self._call(
                "service.saveparam",
                "service",
                item_id,
                f"{name}={value}",
                f"crypted={'on' if is_secret else 'off'}",
                "sok=ok",
                secret=value if is_secret else "",
            )

    def write_operation_done(self, item_id: int, operation: str) -> bool:
        """Call service.post<operation>; True when BILLmanager accepted it.

        Raises:
            ValueRefused: not an operation whose end BILLmanager can be told.
            WriteFailed: as for `write_credentials`.
        """
        name = operation.lower().replace("_", "")
        if name not in OPERATION_WISHES:
            raise ValueRefused(
                f"service {item_id}: {show(operation)} is no operation that can be reported as done"
            )
        self._call(f"service.post{name}", "service", item_id, "sok=ok")
        return True

    def write_operation_failed(self, operation_id: int, error_xml: str) -> None:
        """Call runningoperation.edit: why an operation failed, as BILLmanager's administrators see it.

        Raises:
            WriteFailed: as for `write_credentials`.
        """
        self._call("runningoperation.edit", "operation", operation_id, f"errorxml={error_xml}", "sok=ok")

    def hand_to_person(self, operation_id: int, item_id: int, operation: str) -> None:
        """Have BILLmanager try an operation no more by itself, and make a task of it for a person.

        Raises:
            WriteFailed: as for `write_credentials`; what was called before stays done.
        """
        self._call("runningoperation.setmanual", "operation", operation_id, "sok=ok")
        answer = self._call("task.gettype", "service", item_id, f"operation={operation}", key="item")
        kind = _find_text(answer, "task_type")
        if kind:  # an installation may have no type of task for this operation
            self._call(
                "task.edit",
                "service",
                item_id,
                f"runningoperation={int(operation_id)}",
                f"type={kind}",
                "sok=ok",
                key="item",
            )

    def write_tariff_rollback(self, item_id: int) -> None:
        """Call service.changepricelist.rollback: the service has its earlier tariff again.

        Raises:
            WriteFailed: as for `write_credentials`.
        """
        self._call("service.changepricelist.rollback", "service", item_id, "sok=ok")

    def write_usage(self, server_id: int, day: date, usage: Iterable[Usage]) -> int:
        """Record usage, see `bm_db.usage_writer.write_usage`."""
        return write_usage(self._billing, server_id, day, usage)

    def write_usage_complete(self, server_id: int, day: date) -> bool:
        """Call service.poststat; True when BILLmanager accepted it.

        Raises:
            WriteFailed: as for `write_credentials`.
        """
        self._call("service.poststat", "server", server_id, f"date={day.isoformat()}")
        return True

    def _call(
        self, function: str, kind: str, elid: int, *arguments: str, key: str = "elid", secret: str = ""
    ) -> bytes:
        """Call a function about a thing (``key=elid``); its answer."""
        argv = [
            self._path,
            "-m",
            "billmgr",
            "-o",
            "json",
            function,
            f"{key}={int(elid)}",
            *arguments,
        ]
        what = f"{function} for {kind} {int(elid)}"
        exit_code, answer, complaint = self._run(argv, what)
        # A tool that failed without an answer has said why on standard error, if at all.
        message = _find_error(answer) if exit_code == 0 or answer.strip() else None
        if message is None and exit_code == 0:
            return answer
        if message is None:
            message = f"exit code {exit_code}: " + (_decode(complaint or answer) or "no message")
        if secret:
            message = message.replace(secret, "***")
        message = make_one_line(" ".join(message.split()), _MESSAGE_CHARACTERS)
        raise WriteFailed(f"{what} was refused ({message}): look into BILLmanager's log")

    def _run(self, argv: list[str], what: str) -> tuple[int, bytes, bytes]:
        """Exit code, standard output and standard error of a program in a process group of its own."""
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell; see the module's docstring
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as exc:
            # Without the cause's filename and arguments: only what the system said.
            raise WriterUnavailable(
                f"mgrctl {self._path} cannot be run ({exc.strerror}): set mgrctl to BILLmanager's sbin/mgrctl"
            ) from exc
        try:
            with process:
                try:
                    return self._read_answer(process, what)
                except BaseException:
                    _kill_group(process)
                    raise
        except subprocess.TimeoutExpired as exc:
            raise WriteTimedOut(
                f"{what} had no answer within {self._timeout_seconds:g} s: it may or may not have been done"
            ) from exc

    def _read_answer(self, process: subprocess.Popen[bytes], what: str) -> tuple[int, bytes, bytes]:
        """Both outputs until their end or the program's (a child of its own may hold them open)."""
        deadline = time.monotonic() + self._timeout_seconds
        answer, complaint = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            for stream, collected in ((process.stdout, answer), (process.stderr, complaint)):
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ, collected)
            while selector.get_map():
                remaining_seconds = deadline - time.monotonic()
                if remaining_seconds <= 0:
                    raise subprocess.TimeoutExpired(self._path, self._timeout_seconds)
                has_ended = process.poll() is not None
                ready = selector.select(0 if has_ended else min(remaining_seconds, 0.1))
                for key, _ in ready:
                    _collect(selector, key.fileobj, key.data)
                if len(answer) + len(complaint) > _ANSWER_BYTES:
                    raise WriteFailed(
                        f"{what} was answered with more than {_ANSWER_BYTES} bytes: check {self._path}"
                    )
                if has_ended and not ready:
                    break
        exit_code = process.wait(max(deadline - time.monotonic(), 0.0))
        return exit_code, bytes(answer), bytes(complaint)


def _collect(selector: selectors.BaseSelector, stream: object, collected: bytearray) -> None:
    if not hasattr(stream, "fileno"):  # pragma: no cover - only pipes are registered
        return
    file: IO[bytes] = stream  # type: ignore[assignment]
    content = os.read(file.fileno(), 65536)
    if content:
        collected.extend(content)
    else:
        selector.unregister(file)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _find_error(answer: bytes) -> str | None:
    """The error an answer holds, None when it says that all went well; no answer is an error too."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return f"not JSON: {_decode(answer)[:60] or 'empty'}"
    if not isinstance(document, dict):
        return "not a JSON object"
    inner = document.get("doc")
    for level in (document, inner if isinstance(inner, dict) else {}):
        if "error" in level:
            return _describe_error(level["error"])
    return None


def _find_text(answer: bytes, name: str) -> str:
    """A text of that name anywhere in an answer that is no error; "" without one."""
    rest: list[object] = [json.loads(answer)]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if text := _get_text(value.get(name)):
                return text
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return ""


def _describe_error(error: object) -> str:
    """The message of an error in any of its shapes: text, {"$": text}, {"msg": either}."""
    if isinstance(error, dict):
        message = _get_text(error.get("msg"))
        kind = _get_text(error.get("type")) or _get_text(error.get("$type"))
        return message or kind or _get_text(error) or "error without a message"
    return _get_text(error) or "error without a message"


def _get_text(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("$")
    return value if isinstance(value, str) else ""


def _decode(content: bytes) -> str:
    return content[:4096].decode("utf-8", "replace").strip()
