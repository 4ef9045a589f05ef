"""Writing through mgrctl: a real program stands in for it, notes each call, and answers as told."""

from __future__ import annotations

import json
import os
import select
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bm_db import BillingWriter, Card, MgrctlWriter, ReadOnlyWriter, Usage, errors, open_billing
from tests.executables import write_python_program

DONE = '{"doc": {"ok": {}}}'
PROGRAM = """import json, os, pathlib, subprocess, sys, time
here = pathlib.Path({here!r})
with (here / "calls").open("a") as calls:
    call = {{"argv": sys.argv[1:], "environment": dict(os.environ), "cwd": os.getcwd()}}
    calls.write(json.dumps(call) + "\\n")
{body}
"""


# Only usage would be written over it.
BILLING = open_billing("sqlite:////nowhere/billing.db", password=None, private_key_pem=None)
DAY = date(2026, 3, 9)


def open_writer(path: str | Path, timeout_seconds: float = 60.0) -> MgrctlWriter:
    return MgrctlWriter(BILLING, path, timeout_seconds)


class StandIn:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "mgrctl"
        self._directory = directory
        self.answer(DONE)

    def answer(self, text: str, exit_code: int = 0, complaint: str = "") -> None:
        self.behave(f"sys.stdout.write({text!r}); sys.stderr.write({complaint!r}); sys.exit({exit_code})")

    def behave(self, body: str) -> None:
        write_python_program(self.path, PROGRAM.format(here=str(self._directory), body=body))

    @property
    def calls(self) -> list[dict[str, Any]]:
        file = self._directory / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def mgrctl(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


def test_credentials_are_saved_one_call_each(mgrctl: StandIn) -> None:
    writer = open_writer(mgrctl.path)
    assert writer.can_write is True
    writer.write_credentials(7, username="anna", password="--x sok=no; $(id) 'ü\"", url="https://one/")
    common = ["-m", "billmgr", "-o", "json", "service.saveparam", "elid=7"]
    assert [call["argv"] for call in mgrctl.calls] == [
        [*common, "username=anna", "crypted=off", "sok=ok"],
        [*common, "userpassword=--x sok=no; $(id) 'ü\"", "crypted=on", "sok=ok"],
        [*common, "url=https://one/", "crypted=off", "sok=ok"],
    ]


def test_texts_of_the_card_are_saved_one_call_each(mgrctl: StandIn) -> None:
    writer = open_writer(mgrctl.path)
    writer.write_card(7, Card(state="работает", used="1,5 ГБ"))
    writer.write_card(8, Card(used="2 GB"))
    writer.write_card(9, Card())
    assert [call["argv"][5:] for call in mgrctl.calls] == [
        ["elid=7", "nextcloud_status=работает", "crypted=off", "sok=ok"],
        ["elid=7", "nextcloud_used=1,5 ГБ", "crypted=off", "sok=ok"],
        ["elid=8", "nextcloud_used=2 GB", "crypted=off", "sok=ok"],
    ]


def test_only_what_is_given_is_saved(mgrctl: StandIn) -> None:
    open_writer(mgrctl.path).write_credentials(7)
    assert mgrctl.calls == []
    open_writer(str(mgrctl.path)).write_credentials(7, url="")
    assert [call["argv"][6] for call in mgrctl.calls] == ["url="]


def test_child_gets_nothing_of_our_environment(mgrctl: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    open_writer(mgrctl.path).write_operation_done(7, "open")
    [call] = mgrctl.calls
    assert set(call["environment"]) - {"LC_CTYPE"} == {"PATH", "LANG"}
    assert call["cwd"] == "/"


@pytest.mark.parametrize("operation", ["open", "suspend", "resume", "setparam", "close"])
def test_end_of_an_operation_is_told(mgrctl: StandIn, operation: str) -> None:
    assert open_writer(mgrctl.path).write_operation_done(7, operation) is True
    assert mgrctl.calls[0]["argv"][4:] == [f"service.post{operation}", "elid=7", "sok=ok"]


def test_other_spelling_of_setparam_is_understood(mgrctl: StandIn) -> None:
    assert open_writer(mgrctl.path).write_operation_done(7, "set_param") is True
    assert mgrctl.calls[0]["argv"][4] == "service.postsetparam"


def test_end_of_a_days_usage_is_told(mgrctl: StandIn) -> None:
    assert open_writer(mgrctl.path).write_usage_complete(3, DAY) is True
    [call] = mgrctl.calls
    assert call["argv"] == ["-m", "billmgr", "-o", "json", "service.poststat", "elid=3", "date=2026-03-09"]


def test_end_of_a_days_usage_that_is_refused_is_a_failure_of_that_server(mgrctl: StandIn) -> None:
    mgrctl.answer('{"error": {"msg": "No such module"}}')
    with pytest.raises(errors.WriteFailed, match=r"poststat for server 3 was refused \(No such module\)"):
        open_writer(mgrctl.path).write_usage_complete(3, DAY)


@pytest.mark.parametrize("operation", ["", "prolong", "open elid=8", "open\n"])
def test_unknown_operation_is_refused_without_a_call(mgrctl: StandIn, operation: str) -> None:
    with pytest.raises(errors.ValueRefused, match="service 7"):
        open_writer(mgrctl.path).write_operation_done(7, operation)
    assert mgrctl.calls == []


def test_elid_is_always_a_number(mgrctl: StandIn) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        open_writer(mgrctl.path).write_operation_done("7 x=y", "open")  # type: ignore[arg-type]
    assert mgrctl.calls == []


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "\x1b[0m", "\x85", "\udc80", "x" * 5000])
def test_control_characters_are_refused_without_any_call(mgrctl: StandIn, value: str) -> None:
    for name in ("username", "password", "url"):
        with pytest.raises(errors.ValueRefused) as caught:
            open_writer(mgrctl.path).write_credentials(7, **{"username": "anna", name: value})
        assert value not in str(caught.value)
    assert mgrctl.calls == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            '{"doc": {"error": {"$type": "missed", "$object": "elid", "msg": {"$": "No such service"}}}}',
            "No such service",
        ),
        ('{"error": {"type": "missed", "msg": "No such service"}}', "No such service"),
        ('{"error": {"type": "missed"}}', "missed"),
        ('{"doc": {"error": {"$type": "access"}}}', "access"),
        ('{"doc": {"error": {"$": "plain"}}}', "plain"),
        ('{"error": "plain"}', "plain"),
        ('{"error": {}}', "without a message"),
        ('{"error": [1]}', "without a message"),
        ('{"error": {"msg": "two\\nlines\\u0007"}}', "two lines\\\\x07"),
        ("[]", "not a JSON object"),
        ("<doc/>", "not JSON: <doc/>"),
        ("", "not JSON: empty"),
        ('{"doc": ', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_error_in_the_answer_is_a_failure_even_with_exit_code_0(
    mgrctl: StandIn, answer: str, message: str
) -> None:
    mgrctl.answer(answer)
    with pytest.raises(errors.WriteFailed, match=message) as caught:
        open_writer(mgrctl.path).write_operation_done(7, "open")
    assert str(caught.value).startswith("service.postopen for service 7 was refused")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.is_transient


@pytest.mark.parametrize(
    "answer", [DONE, '{"doc": null}', "{}", '{"doc": {"list": [{"error": "of another kind"}]}}']
)
def test_answer_without_an_error_is_done(mgrctl: StandIn, answer: str) -> None:
    mgrctl.answer(answer, complaint="a warning")
    assert open_writer(mgrctl.path).write_operation_done(7, "close") is True


@pytest.mark.parametrize(
    ("complaint", "message"),
    [("core is\nrestarting", "exit code 1: core is restarting"), ("", "exit code 1: {}")],
)
def test_exit_code_is_a_failure(mgrctl: StandIn, complaint: str, message: str) -> None:
    mgrctl.answer("{}", exit_code=1, complaint=complaint)
    with pytest.raises(errors.WriteFailed, match=message):
        open_writer(mgrctl.path).write_operation_done(7, "open")


def test_password_is_never_in_a_message(mgrctl: StandIn) -> None:
    secret = "Tr0ub4dor&3 x"
    mgrctl.answer(json.dumps({"error": {"msg": f"bad value '{secret}'"}}))
    with pytest.raises(errors.WriteFailed) as caught:
        open_writer(mgrctl.path).write_credentials(7, password=secret)
    assert "bad value '***'" in str(caught.value)
    mgrctl.behave("time.sleep(600)")
    with pytest.raises(errors.WriteTimedOut) as timed_out:
        open_writer(mgrctl.path, timeout_seconds=0.3).write_credentials(7, password=secret)
    missing = open_writer(mgrctl.path.with_name("nowhere"))
    with pytest.raises(errors.WriterUnavailable) as unavailable:
        missing.write_credentials(7, password=secret)
    for failure in (caught.value, timed_out.value, unavailable.value):
        assert secret not in "".join(traceback.format_exception(failure))
    assert secret not in repr(missing)


def test_program_that_hangs_is_killed_with_its_children(mgrctl: StandIn, tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    mgrctl.behave(
        f"child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(child_file) + '.new'!r}).write_text(str(child.pid))\n"
        f"os.rename({str(child_file) + '.new'!r}, {str(child_file)!r})\n"
        "time.sleep(600)"
    )
    with pytest.raises(errors.WriteTimedOut, match="within 3 s") as caught:
        open_writer(mgrctl.path, timeout_seconds=3).write_operation_done(7, "open")
    assert caught.value.is_transient
    child_id = int(child_file.read_text())
    try:
        ended = os.pidfd_open(child_id)
    except ProcessLookupError:
        return
    try:
        assert select.select([ended], [], [], 10)[0]
    finally:
        os.close(ended)


def test_program_that_closes_its_output_and_hangs_is_killed(mgrctl: StandIn) -> None:
    mgrctl.behave("os.close(1); os.close(2); time.sleep(600)")
    with pytest.raises(errors.WriteTimedOut):
        open_writer(mgrctl.path, timeout_seconds=0.5).write_operation_done(7, "open")


def test_child_that_keeps_the_output_open_does_not_delay_us(mgrctl: StandIn) -> None:
    mgrctl.behave(f"subprocess.Popen(['sleep', '5']); sys.stdout.write({DONE!r})")
    began = time.monotonic()
    assert open_writer(mgrctl.path, timeout_seconds=60).write_operation_done(7, "open") is True
    assert time.monotonic() - began < 4.5


def test_endless_answer_is_cut_off(mgrctl: StandIn) -> None:
    mgrctl.behave("while True: sys.stdout.write('x' * 65536)")
    with pytest.raises(errors.WriteFailed, match="more than 1048576 bytes"):
        open_writer(mgrctl.path).write_operation_done(7, "open")


def test_missing_or_unusable_program_is_named(mgrctl: StandIn, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF not a program")
    broken.chmod(0o755)
    for path in (tmp_path / "nowhere", tmp_path, broken):
        with pytest.raises(errors.WriterUnavailable, match=str(path)) as caught:
            open_writer(path).write_operation_done(7, "open")
        assert not caught.value.is_transient


def test_read_only_writer_writes_nothing_and_says_so() -> None:
    writer: BillingWriter = ReadOnlyWriter()
    assert writer.can_write is False
    writer.write_credentials(7, username="anna", password="x", url="y")
    assert writer.write_operation_done(7, "open") is False
    assert writer.write_usage(3, DAY, [Usage(7, 1, 2)]) == 0
    assert writer.write_usage_complete(3, DAY) is False
