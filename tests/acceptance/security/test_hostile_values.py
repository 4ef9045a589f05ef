"""Whatever stands in BILLmanager or on a server: it comes out harmless on terminal, log, JSON and HTTP."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from typing import Final
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.daemon import Daemon
from reconciler.sandbox.emulator import CloudEmulator
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.daemon.running import make_settings, read_port
from tests.acceptance.evidence import FORBIDDEN, check_words, invoke, make_clouds
from tests.acceptance.security.hostile_street import HOSTILE, MARKER, Street
from tests.acceptance.security.terminal import OWN_SEQUENCES, run_on_terminal
from tests.forking import open_fork_server

TOKEN: Final = "token-7f1c2b9d4e"
LONGEST_LINE: Final = 3000
"""Of a log, of a table: a hostile megabyte fills neither."""
FORGED: Final = ("2026-01-01T00:00:00.000+00:00 error forged", "reconciler: forged")
COMMANDS: Final = (
    *(["plan"], ["status"], ["status", "1"], ["usage"], ["orphans", "--all"], ["check-connection"]),
    *(["history", "1"], ["history", "2"]),
)

Answer = tuple[dict[str, str], bytes]
Ask = Callable[[str, str, object], Answer]


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    return open_fork_server()


@pytest.fixture(params=HOSTILE)
def street(request: pytest.FixtureRequest, make_world: MakeWorld) -> Street:
    texts = HOSTILE[request.param]
    strange = CloudEmulator("nextcloud", admin_password="x")
    strange.product_name = texts[0][:5000]
    world = make_world(clouds=[*make_clouds(), strange])
    token = world.land.folder / "http-token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    world.land.configure(make_settings(logging={"format": "json"}, http={"token_file": "http-token"}))
    return Street(world, texts)


def test_hostile_values_come_out_harmless_everywhere(street: Street, processes: ForkServerContext) -> None:
    config = str(street.world.land.config_path)
    shown = [run_on_terminal(processes, "--config", config, "once")]
    reason = street.texts[0][:2000].replace("\0", "")  # no command line can hold it
    for arguments in (["once"], ["hold", "1", "--reason", reason], *COMMANDS):
        check_lines(street, *arguments)
    shown += [run_on_terminal(processes, "--config", config, *arguments) for arguments in COMMANDS]
    for text in shown:
        check_terminal(text)
    seen = "".join(shown)
    assert seen.count(MARKER) + seen.count(r"PW\x00NED") > 10, "they are shown, or nothing was tried"
    with serving(street.world) as ask:
        check_http(street, ask)


def check_terminal(shown: str) -> None:
    """Nothing that the terminal obeys but what rich sends itself."""
    assert "Traceback" not in shown
    assert not re.search(r"\x1b\[31m|\x1b\[2J|\x1b\]|\x1b\[6n", shown)
    for line in OWN_SEQUENCES.sub("", shown).split("\n"):
        check_line(line)


def check_line(line: str) -> None:
    assert line.isprintable(), repr(line)
    assert not line.startswith(FORGED)


def check_lines(street: Street, *arguments: str) -> None:
    """Without a terminal: plain lines and log lines, each one line; and JSON that is ASCII."""
    config = street.world.land.config_path
    result = invoke(config, *arguments)
    check_words(result)
    for line in (result.stdout + result.stderr).split("\n"):
        check_line(line.replace("\t", ""))
        assert len(line) < LONGEST_LINE, line[:200]
    for line in result.stderr.splitlines():
        if line.startswith("{"):
            assert {"time", "level", "event"} <= json.loads(line).keys()
        else:
            assert re.match(r"(reconciler|Usage|Try|Error)\b|$", line), line[:200]
    as_json = invoke(config, *arguments, "--json").stdout
    assert as_json.isascii()
    assert as_json.replace("\n", "").isprintable()
    assert not as_json or json.loads(as_json) is not None
    assert not [word for word in FORBIDDEN if word in as_json]


def check_http(street: Street, ask: Ask) -> None:
    metrics = ask("GET", "/metrics", None)[1].decode()
    for line in metrics.split("\n"):
        check_line(line)
        assert MARKER not in line or line.startswith("reconciler_server_info{"), "only servers are named"
    assert list(text_string_to_metric_families(metrics))
    for text in street.texts:
        address = quote(text[:3000])
        for path in (f"/api/v1/services?q={address}", f"/api/v1/services?state={address}", f"/{address}"):
            check_answer(*ask("GET", path, None))
    for path in ("/api/v1/status", "/readyz", "/api/v1/services?page_size=500", "/api/v1/services/1"):
        check_answer(*ask("GET", path, None))
    for change, body in (("hold", {"reason": street.texts[0][:500]}), ("resync", None), ("release", None)):
        check_answer(*ask("POST", f"/api/v1/services/1/{change}", body))


def check_answer(headers: dict[str, str], content: bytes) -> None:
    text = content.decode("ascii")
    assert text.replace("\n", "").isprintable()
    assert MARKER not in str(headers)
    assert len(content) < 300_000
    assert headers["Content-Type"] == "application/json"
    assert "<" not in text
    assert json.loads(text)


@contextmanager
def serving(world: World) -> Iterator[Ask]:
    """The daemon's own HTTP interface, over the journal as it is; nothing is worked on meanwhile."""
    daemon = Daemon(str(world.land.config_path))
    daemon.get_app().fleet.refresh()
    daemon.web.start()
    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def ask(method: str, path: str, body: object) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", read_port(world.land.config_path), timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return dict(answer.headers.items()), answer.read()
        finally:
            connection.close()

    try:
        yield ask
    finally:
        daemon.web.stop()
        daemon.get_app().close()
