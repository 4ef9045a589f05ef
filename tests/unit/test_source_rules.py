"""Our packages run no shell, make no SQL of texts, follow no redirects, and compare no secret with ``==``."""

from __future__ import annotations

import functools
import re

import pytest

from tests.unit.source_rules import ROOT, list_sources, scan

ALLOWED = {
    # Programs are started with a list of arguments, and only here:
    (
        "process",
        "bm_db/mgrctl_writer.py::_run",
    ): "BILLmanager's own command; its values cannot become options",
    ("process", "reconciler/demo.py::_run_daemon"): "the demo's daemon: this program itself",
    # Statements that are not constants; what is put into them is never anybody's text:
    (
        "SQL that is no constant",
        "bm_db/service_rows.py::is_one_of",
    ): "numbers (int()) of which there are many",
    ("SQL that is no constant", "bm_db/checksums.py::_sum_by"): "a constant of ours",
    ("SQL that is no constant", "bm_db/values.py::first_characters"): "a constant of ours, a number",
    ("SQL that is no constant", "bm_db/engine.py::_begin_sqlite"): "one of two words, one of two statements",
    ("SQL that is no constant", "bm_db/engine.py::limit_statements"): "numbers of ours",
    ("SQL that is no constant", "reconciler/journal/store.py::on_begin"): "one of two words, or statements",
    # Secrets that are no guess of anybody's:
    ("comparison of a secret", "bm_db/sql_writer.py::_save_password"): "two values of ours",
    ("comparison of a secret", "reconciler/delivery.py::deliver"): "two values of ours",
    ("comparison of a secret", "reconciler/sandbox/"): "the emulators compare what tests and the demo send",
}
"""Rule and place (a file's function, or a folder) with the reason why it is no danger there."""


def is_allowed(rule: str, place: str) -> bool:
    return any(rule == name and place.startswith(start) for name, start in ALLOWED)


@functools.cache
def list_findings() -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for path in list_sources():
        for finding in scan(path.read_text("utf-8"), path.relative_to(ROOT).as_posix()):
            found.setdefault((finding.rule, finding.place), []).append(finding.line)
    return found


def test_our_packages_keep_to_the_rules() -> None:
    assert len(list_sources()) > 80
    broken = {key: lines for key, lines in list_findings().items() if not is_allowed(*key)}
    assert broken == {}, "mend it, or add the place with a reason to ALLOWED"


def test_every_exception_is_still_needed() -> None:
    found = list_findings()
    needless = [
        key
        for key in ALLOWED
        if not any(rule == key[0] and place.startswith(key[1]) for rule, place in found)
    ]
    assert needless == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("shell", "import os\nos.system(x)"),
        ("shell", "from os import popen\npopen('ls')"),
        ("shell", "import subprocess\nsubprocess.run(x, shell=True)"),
        ("shell", "import subprocess as s\ns.run(x, shell=flag)"),
        ("shell", "from subprocess import getoutput\ngetoutput(x)"),
        ("shell", "import subprocess\nsubprocess.Popen(['sh', '-c', x])"),
        ("shell", "import subprocess\nsubprocess.Popen(f'ls {x}')"),
        ("process", "import subprocess\nsubprocess.run([x])"),
        ("process", "import os\nos.execv(x, y)"),
        ("code", "eval(x)"),
        ("code", "exec('pass')"),
        ("unsafe reader", "import pickle"),
        ("unsafe reader", "from pickle import loads\nloads(x)"),
        ("unsafe reader", "import yaml\nyaml.load(x)"),
        ("unsafe reader", "from xml.etree.ElementTree import fromstring\nfromstring(x)"),
        ("unsafe reader", "import xml.etree.ElementTree as ElementTree\nElementTree.parse(x)"),
        ("SQL that is no constant", "from sqlalchemy import text\ntext(f'SELECT {x}')"),
        ("SQL that is no constant", "import sqlalchemy as sa\nsa.text('SELECT ' + x)"),
        ("SQL that is no constant", "import sqlalchemy as sa\nsa.text(x)"),
        ("SQL that is no constant", "connection.exec_driver_sql('DROP TABLE %s' % x)"),
        ("SQL that is no constant", "cursor.execute(f'SELECT {x}')"),
        ("SQL that is no constant", "cursor.execute('SELECT {}'.format(x))"),
        ("TLS unchecked", "session.get(x, verify=False)"),
        ("HTTP without our session", "import requests\nrequests.get(x)"),
        ("redirects followed", "login.http.request('GET', x)"),
        ("redirects followed", "self.http.request('GET', x, allow_redirects=True)"),
        ("comparison of a secret", "def f(token):\n    return given == token"),
        ("comparison of a secret", "self._token != x"),
    ],
)
def test_a_breach_is_found(rule: str, source: str) -> None:
    assert rule in {finding.rule for finding in scan(source, "module.py")}


@pytest.mark.parametrize(
    "source",
    [
        "import sqlalchemy as sa\nsa.text('SELECT 1')",
        "connection.execute(select(table).where(table.c.id == x))",
        "from defusedxml.ElementTree import fromstring as read\nread(x)",
        "import subprocess\nprocess: subprocess.Popen[bytes]",
        "# os.system('ls')\nname = 'shell=True'",
        "self._token is None",
        "login.http.request('GET', x, allow_redirects=False)",
        "import hmac\nhmac.compare_digest(a, token)",
    ],
)
def test_what_is_harmless_is_not_taken_for_a_breach(source: str) -> None:
    assert scan(source, "module.py") == []


def test_the_token_is_compared_in_constant_time_and_the_environment_is_not_asked_for_proxies() -> None:
    gate = (ROOT / "reconciler/web/gate.py").read_text("utf-8")
    assert re.search(r"not hmac\.compare_digest\([^\n]+, self\._token\)", gate)
    transport = (ROOT / "nc/transport.py").read_text("utf-8")
    assert "self.http.trust_env = False" in transport
    for path in sorted((ROOT / "reconciler/web").glob("*.py")):
        assert "access-control" not in path.read_text("utf-8").lower(), f"{path.name}: no CORS header"
