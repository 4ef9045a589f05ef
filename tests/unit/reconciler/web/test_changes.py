"""What operators ask for over HTTP: resync, hold, release; and what is left of it in the journal."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Any

import pytest

from reconciler.journal import Answer
from reconciler.web.app import MOST_WAITING
from tests.unit.reconciler.web.site import TOKEN, Site, answering, wait_until

SERVICE = "/api/v1/services/1"
ANSWER = Answer("active", "as sold", ("set_quota",))
ACTOR = "http:127.0.0.1"


def get_hold(site: Site, item_id: int = 1) -> str | None:
    record = site.app.journal.services.get(item_id)
    assert record is not None
    return record.memory.hold_reason


def sell(site: Site) -> int:
    """A service that no cycle has seen yet."""
    plan, account = site.billing.add_plan("New", 1), site.billing.add_client("new@example.net")
    return site.billing.add_service(plan, account, site.nextcloud)


# -- resync


@pytest.mark.parametrize("body", [None, {}])
def test_a_resync_is_asked_for_and_its_request_stands_in_the_journal(site: Site, body: object) -> None:
    reply = site.post(f"{SERVICE}/resync", body)
    assert reply.status == 202
    [request] = site.app.journal.requests.take("test")
    assert (request.item_id, request.actor, request.answer) == (1, ACTOR, None)
    assert reply.json == {"request_id": request.id, "item_id": 1, "answer": None}


def test_whoever_waits_is_told_what_came_of_his_resync(site: Site) -> None:
    with answering(site, ANSWER):
        reply = site.post(f"{SERVICE}/resync?wait=60")
    assert reply.status == 200
    assert reply.json["answer"] == {**asdict(ANSWER), "steps": ["set_quota"]}


def test_whoever_waits_in_vain_is_told_that_it_was_asked_for(site: Site) -> None:
    reply = site.post(f"{SERVICE}/resync?wait=1")
    assert (reply.status, reply.json["answer"]) == (202, None)


def test_a_request_that_was_withdrawn_is_waited_for_no_longer(site: Site) -> None:
    replies = []
    thread = threading.Thread(target=lambda: replies.append(site.post(f"{SERVICE}/resync?wait=60")))
    thread.start()
    wait_until(lambda: site.app.journal.requests.withdraw([1]), "the request was made")
    started = time.monotonic()
    thread.join()
    assert time.monotonic() - started < 30
    assert [reply.status for reply in replies] == [202]


def test_those_who_wait_keep_nobody_else_waiting(site: Site) -> None:
    """More wait than there are places: those beyond are answered at once, and health is still told."""
    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda: replies.append(site.post(f"{SERVICE}/resync?wait=60").status))
        for _ in range(MOST_WAITING + 6)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(replies) == 6, "those beyond the places are answered")
    assert site.get("/healthz").status == 200
    with answering(site, ANSWER):
        for thread in threads:
            thread.join()
    assert sorted(replies) == [200] * MOST_WAITING + [202] * 6


@pytest.mark.parametrize("wait", ["-1", "61", "x", "", "1.5"])
def test_a_wait_that_is_none_is_refused_and_nothing_is_asked_for(shared_site: Site, wait: str) -> None:
    reply = shared_site.post(f"{SERVICE}/resync?wait={wait}")
    assert reply.status == 400
    assert reply.error.startswith("wait must be a whole number from 0 to 60, not ")
    assert shared_site.app.journal.requests.take("test") == []


def test_a_service_that_only_billing_knows_can_be_asked_for(site: Site) -> None:
    item_id = sell(site)
    assert site.post(f"/api/v1/services/{item_id}/resync").status == 202
    assert [request.item_id for request in site.app.journal.requests.take("test")] == [item_id]


# -- hold and release


def test_a_hold_is_recorded_with_its_reason_and_who_asked_for_it(site: Site) -> None:
    reply = site.post(f"{SERVICE}/hold", {"reason": "moving house"})
    assert (reply.status, reply.json) == (200, {"item_id": 1, "hold_reason": "moving house"})
    assert get_hold(site) == "moving house"
    assert site.list_history(1)[-1] == (ACTOR, "hold", "moving house")
    assert site.get(SERVICE).json["service"]["memory"]["hold_reason"] == "moving house"
    assert site.get("/api/v1/status").json["held"] == 1
    assert get_hold(site, 2) is None


def test_a_second_hold_replaces_the_reason(site: Site) -> None:
    for reason in ("first", "second"):
        assert site.post(f"{SERVICE}/hold", {"reason": reason}).status == 200
    assert get_hold(site) == "second"


def test_a_release_ends_the_hold_and_stands_in_the_history(site: Site) -> None:
    site.post(f"{SERVICE}/hold", {"reason": "moving house"})
    reply = site.post(f"{SERVICE}/release")
    assert (reply.status, reply.json) == (200, {"item_id": 1, "hold_reason": None})
    assert get_hold(site) is None
    assert site.list_history(1)[-1] == (ACTOR, "release", "")


def test_a_release_lifts_a_quarantine(site: Site) -> None:
    site.app.journal.services.update(1, quarantine_reason="changes to no end")
    assert site.post(f"{SERVICE}/release", {}).status == 200
    record = site.app.journal.services.get(1)
    assert record is not None
    assert record.memory.quarantine_reason is None


def test_there_is_nothing_to_release_of_a_service_that_is_not_held(shared_site: Site) -> None:
    before = shared_site.list_history(1)
    reply = shared_site.post(f"{SERVICE}/release")
    assert reply.status == 409
    assert reply.error.startswith("service 1 is neither held nor quarantined")
    assert shared_site.list_history(1) == before


@pytest.mark.parametrize("change", ["resync", "hold", "release"])
def test_a_service_that_nobody_knows_is_not_found_and_leaves_no_trace(shared_site: Site, change: str) -> None:
    reply = shared_site.post(f"/api/v1/services/4711/{change}", {"reason": "x"} if change == "hold" else None)
    assert reply.status == 404
    assert reply.error == "billing has no service 4711: check the number"
    assert shared_site.app.journal.requests.take("test") == []
    assert shared_site.list_history(4711) == []
    assert shared_site.app.journal.overview.count_held() == 0


@pytest.mark.parametrize("reason", ["x", "x" * 500, "\u00fc\U0001f418" * 250, "two\nlines\t\x1b[2J", " x "])
def test_every_reason_that_says_something_is_kept_as_it_is(site: Site, reason: str) -> None:
    assert site.post(f"{SERVICE}/hold", {"reason": reason}).status == 200
    assert get_hold(site) == reason
    assert site.list_history(1)[-1] == (ACTOR, "hold", reason)


def test_a_hostile_reason_comes_out_as_json_escapes(site: Site) -> None:
    reason = "<img src=x onerror=alert(1)>&\x1b[2J\r\n\x7f\u2028"
    replies = [site.post(f"{SERVICE}/hold", {"reason": reason})]
    replies += [site.get(path) for path in (SERVICE, "/api/v1/services")]
    for reply in replies:
        assert reply.status == 200
        assert b"\\u003cimg src=x onerror=alert(1)\\u003e\\u0026\\u001b[2J\\r\\n" in reply.body
        assert reply.body.isascii()
        assert not set(reply.body) & set(b"<>&\x1b\r")
    assert replies[1].json["history"][-1]["why"] == reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"reason": ""}',
        b'{"reason": " \\n\\t "}',
        b'{"reason": null}',
        b'{"reason": 1}',
        b'{"reason": ["x"]}',
        b'{"reason": "a\\u0000b"}',
        b'{"reason": "\\ud800"}',
        b'{"reason": "' + b"x" * 501 + b'"}',
        b'{"reason": "x", "until": "tomorrow"}',
        b'{"reason": "x", "<b>\\u001b": 1}',
        b'["reason"]',
        b'"reason"',
        b"null",
        b"reason=x",
        b'{"reason": "x"',
        b'{"reason": "x"} {}',
        b'{"reason": "\xff"}',
        b"[" * 60_000,
        b'{"reason": ' + b"9" * 10_000 + b"}",
    ],
)
def test_a_body_that_is_no_reason_is_refused_and_holds_nothing(shared_site: Site, body: bytes) -> None:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    reply = shared_site.ask("POST", f"{SERVICE}/hold", body, sent)
    assert reply.status == 400
    assert "reason" in reply.error or "the body" in reply.error
    assert len(reply.error) < 250
    assert get_hold(shared_site) is None


@pytest.mark.parametrize("change", ["resync", "release"])
@pytest.mark.parametrize("body", [{"reason": "x"}, [], "x", None])
def test_changes_that_take_no_body_refuse_one_with_content(site: Site, change: str, body: Any) -> None:
    site.app.journal.services.hold(1, "by hand", "test", site.app.clock())
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    text = b"null" if body is None else str(body).replace("'", '"').encode()
    assert site.ask("POST", f"{SERVICE}/{change}", text, sent).status == 400
    assert get_hold(site) == "by hand"
    assert site.app.journal.requests.take("test") == []
