"""What is shown: metrics, health, status, services; and how wrong questions are answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.application import Application
from reconciler.config import load_config
from reconciler.journal import DaemonRecord, HistoryEntry, ServiceUsage
from reconciler.web import Check
from tests.unit.reconciler.web.site import METRICS, Site

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LARGEST = 2**63 - 1


def add_services(site: Site, count: int, first: int = 1001) -> None:
    """Put rows like those of service 1 into the journal, with accounts Bulk_<item>."""
    engine = sa.create_engine(f"sqlite:///{site.folder / 'journal.db'}")
    with engine.begin() as connection:
        table = sa.Table("service", sa.MetaData(), autoload_with=connection)
        row = dict(connection.execute(sa.select(table).where(table.c.item_id == 1)).mappings().one())
        rows = [
            row | {"item_id": item, "desired_key": f"bulk_{item}", "account_userid": f"Bulk_{item}"}
            for item in range(first, first + count)
        ]
        connection.execute(sa.insert(table), rows)
    engine.dispose()


def ids(page: Any) -> list[int]:
    return [item["item_id"] for item in page["items"]]


def test_metrics_come_as_the_daemon_renders_them(site: Site) -> None:
    reply = site.get("/metrics")
    assert (reply.status, reply.body) == (200, METRICS)
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    site.metrics = "# HELP x \u00fc\n".encode()
    assert site.get("/metrics?collect[]=x").body == site.metrics


def test_health_is_told_by_the_status_too(site: Site) -> None:
    assert (site.get("/healthz").status, site.get("/healthz").json) == (
        200,
        {"name": "loop", "is_ok": True, "message": "last completed turn 0.1 s ago"},
    )
    site.health = Check("loop", False, "last completed turn 95.0 s ago")
    reply = site.get("/healthz")
    assert (reply.status, reply.json["message"]) == (503, "last completed turn 95.0 s ago")


def test_readiness_names_each_thing_and_fails_with_one_of_them(site: Site) -> None:
    assert site.get("/readyz").status == 200
    site.readiness = [Check("journal", True, "ok"), Check("billing", False, "no connection: start it")]
    reply = site.get("/readyz")
    assert reply.status == 503
    assert reply.json == {
        "is_ready": False,
        "checks": [
            {"name": "journal", "is_ok": True, "message": "ok"},
            {"name": "billing", "is_ok": False, "message": "no connection: start it"},
        ],
    }


def test_status_tells_servers_and_counts(shared_site: Site) -> None:
    status = shared_site.get("/api/v1/status").json
    assert status["mode"] == "enforce"
    assert status["states"] == {"active": 3}
    assert [(server["product"], server["services"]) for server in status["servers"]] == [
        ("nextcloud", {"active": 2}),
        ("owncloud", {"active": 1}),
    ]
    assert status["limits"]["min_deletions"] == 5


def test_running_daemons_and_their_reports_are_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    record = DaemonRecord("host/1/x", NOW, NOW, {"queue": {"drift": 3}})
    monkeypatch.setattr(site.app.journal.daemons, "list_running", lambda _now: [record])
    [daemon] = site.get("/api/v1/status").json["daemons"]
    assert daemon == {
        "holder": "host/1/x",
        "started_at": "2026-11-25T12:00:00+00:00",
        "seen_at": "2026-11-25T12:00:00+00:00",
        "report": {"queue": {"drift": 3}},
    }


def test_the_parts_of_a_new_configuration_are_shown_at_once(site: Site) -> None:
    before = site.app
    settings = site.config_path.read_text("utf-8")
    site.config_path.write_text(settings.replace("[reconciler]", '[reconciler]\nmode = "observe"'), "utf-8")
    site.app = Application(load_config(site.config_path))
    try:
        assert site.get("/api/v1/status").json["mode"] == "observe"
    finally:
        before.close()


def test_services_come_in_pages_that_together_hold_each_once(site: Site) -> None:
    add_services(site, 22)
    pages = [site.get(f"/api/v1/services?page={page}&page_size=10").json for page in (1, 2, 3)]
    assert [len(page["items"]) for page in pages] == [10, 10, 5]
    assert [item for page in pages for item in ids(page)] == [1, 2, 3, *range(1001, 1023)]
    assert {(page["total"], page["pages"], page["page_size"]) for page in pages} == {(25, 3, 10)}
    assert [page["page"] for page in pages] == [1, 2, 3]


def test_a_page_beyond_the_last_is_empty(shared_site: Site) -> None:
    page = shared_site.get("/api/v1/services?page=1000000&page_size=500").json
    assert (page["items"], page["total"], page["pages"]) == ([], 3, 1)


def test_without_any_service_there_is_one_empty_page(shared_site: Site) -> None:
    page = shared_site.get("/api/v1/services?state=orphaned").json
    assert (page["items"], page["total"], page["pages"]) == ([], 0, 1)


def test_services_are_found_by_state_server_name_and_number(site: Site) -> None:
    add_services(site, 3)
    site.app.journal.services.update(1002, state="drifted")

    def find(query: str) -> list[int]:
        return ids(site.get(f"/api/v1/services?{query}").json)

    assert find("state=drifted") == [1002]
    assert find(f"server={site.owncloud}") == [3]
    assert find(f"server={site.nextcloud}&state=active") == [1, 2, 1001, 1003]
    assert find("q=BULK_") == [1001, 1002, 1003]
    assert find("q=bulk_1003") == [1003]
    assert find("q=1002") == [1002]
    assert find("q=bulk_&state=active&page_size=1&page=2") == [1003]
    assert find("q=") == [1, 2, 3, 1001, 1002, 1003]
    assert find("q=%25") == find("q=ulk") == find("q=b_lk") == find("q=" + "9" * 30) == []


@pytest.mark.parametrize(
    ("query", "beginning"),
    [
        ("page=0", "page must be a whole number from 1 to 1000000, not '0'"),
        ("page=-1", "page must be"),
        ("page=1000001", "page must be"),
        ("page=", "page must be"),
        ("page=1.0", "page must be"),
        ("page=%201", "page must be"),
        ("page=1_0", "page must be"),
        ("page=%D9%A3", "page must be"),
        ("page=" + "9" * 5000, "page must be"),
        ("page_size=0", "page_size must be a whole number from 1 to 500"),
        ("page_size=501", "page_size must be"),
        ("server=x", f"server must be a whole number from 1 to {LARGEST}, not 'x'"),
        ("server=0", "server must be"),
        (f"server={LARGEST + 1}", "server must be"),
        ("state=broken", "state must be one of unknown, absent, "),
        ("state=", "state must be one of"),
        ("state=ACTIVE", "state must be one of"),
        ("q=a%00b", "q must have at most 255 characters and no control characters"),
        ("q=a%0Ab", "q must have"),
        ("q=" + "x" * 256, "q must have"),
        ("sever=1", "unknown parameter 'sever': known are state, server, q, page, page_size"),
        ("%1B%5B2J=1", "unknown parameter "),
        ("page=1&page=2", "parameter page is given 2 times: give it once"),
    ],
)
def test_a_wrong_parameter_is_named(shared_site: Site, query: str, beginning: str) -> None:
    reply = shared_site.get(f"/api/v1/services?{query}")
    assert reply.status == 400
    assert reply.error.startswith(beginning)
    assert len(reply.error) < 250


@pytest.mark.parametrize(
    "query", [f"server={LARGEST}", "q=" + "x" * 255, "q=%F0%9F%90%98%FF", "q=%25_%5C%27"]
)
def test_odd_parameters_that_are_right_are_served(shared_site: Site, query: str) -> None:
    assert shared_site.get(f"/api/v1/services?{query}").json["total"] == 0


def test_one_service_is_shown_with_its_usage_and_its_history(site: Site) -> None:
    site.app.journal.usage.record([ServiceUsage(1, 1, 4 * 1024**3, 5 * 1024**3, NOW)])
    detail = site.get("/api/v1/services/1").json
    assert detail["service"]["item_id"] == 1
    assert detail["service"]["userid"] == "user_1"
    assert detail["service"]["memory"]["state"] == "active"
    assert detail["usage"] == {
        "item_id": 1,
        "server_id": 1,
        "used_bytes": 4 * 1024**3,
        "quota_bytes": 5 * 1024**3,
        "seen_at": "2026-11-25T12:00:00+00:00",
    }
    assert "create" in [entry["action"] for entry in detail["history"]]
    assert site.get("/api/v1/services/2").json["usage"] is None


def test_only_the_latest_hundred_lines_of_history_are_shown(site: Site) -> None:
    for number in range(120):
        site.app.journal.history.add(HistoryEntry(1, 1, NOW, "test", "note", "", "", "done", str(number)))
    history = site.get("/api/v1/services/1").json["history"]
    assert [entry["why"] for entry in history] == [str(number) for number in range(20, 120)]


def test_no_password_is_shown(shared_site: Site) -> None:
    password = shared_site.billing.get_password(1)
    assert password
    for path in ("/api/v1/services/1", "/api/v1/services", "/api/v1/status", "/metrics"):
        assert password.encode() not in shared_site.get(path).body


@pytest.mark.parametrize("item", ["4", "99", str(LARGEST)])
def test_a_service_that_was_never_looked_at_is_not_found(shared_site: Site, item: str) -> None:
    reply = shared_site.get(f"/api/v1/services/{item}")
    assert reply.status == 404
    assert reply.error.startswith(f"service {item} was never looked at: ")


@pytest.mark.parametrize(
    "item", ["0", "-1", "x", "1.0", "%00", "1%0A", "%D9%A1", str(LARGEST + 1), "9" * 400, "1;drop", "%3Cb%3E"]
)
def test_a_number_that_no_service_can_have_is_refused(shared_site: Site, item: str) -> None:
    replies = [
        shared_site.get(f"/api/v1/services/{item}"),
        shared_site.post(f"/api/v1/services/{item}/resync"),
        shared_site.post(f"/api/v1/services/{item}/hold", {"reason": "x"}),
        shared_site.post(f"/api/v1/services/{item}/release"),
    ]
    for reply in replies:
        assert reply.status == 400
        assert reply.error.startswith(f"item must be a whole number from 1 to {LARGEST}, not ")
        assert b"<" not in reply.body


def test_hostile_names_come_out_as_json_escapes(site: Site) -> None:
    name = "<script>alert(1)</script>&\x1b[2J\r\n\u2028\u202e'\"\\"
    site.app.journal.services.update(1, account_userid=name, reason=name, last_error=name)
    for path in ("/api/v1/services/1", "/api/v1/services"):
        reply = site.get(path)
        for forbidden in (b"<", b">", b"&", b"\x1b", b"\r", "\u2028".encode(), "\u202e".encode()):
            assert forbidden not in reply.body
        assert reply.body.count(b"\n") == 1
    assert site.get("/api/v1/services/1").json["service"]["userid"] == name


def test_the_first_page_names_every_endpoint(shared_site: Site) -> None:
    reply = shared_site.get("/")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    text = reply.body.decode()
    for path in shared_site.get("/api/v1/openapi.json").json["paths"]:
        assert f" {path} " in text


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/api/v1/status", "/api/v1/services/1"])
def test_head_is_answered_like_get_without_the_body(shared_site: Site, path: str) -> None:
    head, get = shared_site.ask("HEAD", path), shared_site.get(path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers["Content-Length"] == str(len(get.body))
