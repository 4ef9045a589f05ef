"""Who may ask for what: the token, other machines, browsers that were led astray."""

from __future__ import annotations

import base64

import pytest

from reconciler.config import ConfigInvalid
from reconciler.web import WebServer
from tests.unit.reconciler.web.site import TOKEN, OpenSite, Site, collecting_log

READABLE = (
    "/",
    "/metrics",
    "/healthz",
    "/readyz",
    "/api/v1/openapi.json",
    "/api/v1/status",
    "/api/v1/services",
    "/api/v1/services/1",
)
CHANGES = ("resync", "hold", "release")
SERVICE = "/api/v1/services/1"
HOLD = b'{"reason": "moving house"}'
JSON = {"Content-Type": "application/json"}


def is_untouched(site: Site) -> bool:
    """Whether nobody held service 1 or asked for a pass over it."""
    record = site.app.journal.services.get(1)
    assert record is not None
    return record.memory.hold_reason is None and site.app.journal.requests.take("test") == []


@pytest.mark.parametrize("path", READABLE)
def test_whoever_is_on_this_machine_may_look_without_a_token(shared_site: Site, path: str) -> None:
    assert shared_site.get(path).status == 200
    assert shared_site.get(path, token=TOKEN).status == 200


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_without_the_token_is_refused_and_does_nothing(shared_site: Site, change: str) -> None:
    reply = shared_site.ask("POST", f"{SERVICE}/{change}", HOLD, JSON)
    assert reply.status == 401
    assert reply.error == "the token is missing: send the header Authorization: Bearer TOKEN"
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="bill-nextcloud"'
    assert is_untouched(shared_site)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer t\u00f6ken",
        TOKEN,
        f"Token {TOKEN}",
        "Basic " + base64.b64encode(f"admin:{TOKEN}".encode()).decode(),
    ],
)
def test_a_wrong_token_or_another_scheme_is_refused_for_changes_and_for_looking(
    shared_site: Site, authorization: str
) -> None:
    sent = {**JSON, "Authorization": authorization}
    for reply in (
        shared_site.ask("POST", f"{SERVICE}/hold", HOLD, sent),
        shared_site.ask("GET", SERVICE, headers=sent),
    ):
        assert reply.status == 401
        assert "WWW-Authenticate" in reply.headers
        assert TOKEN not in reply.error
    assert is_untouched(shared_site)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_token_lets_changes_pass_however_the_scheme_is_written(site: Site, scheme: str) -> None:
    sent = {**JSON, "Authorization": f"{scheme} {TOKEN}"}
    assert site.ask("POST", f"{SERVICE}/hold", HOLD, sent).status == 200
    assert not is_untouched(site)


@pytest.mark.parametrize("change", CHANGES)
def test_without_a_configured_token_nothing_can_be_changed_and_the_cure_is_named(
    open_site: OpenSite, change: str
) -> None:
    site = open_site(token=None)
    for reply in (
        site.ask("POST", f"{SERVICE}/{change}", HOLD, JSON),
        site.ask("POST", f"{SERVICE}/{change}", HOLD, {**JSON, "Authorization": "Bearer None"}),
        site.ask("POST", f"{SERVICE}/{change}", HOLD, {**JSON, "Authorization": "Bearer "}),
    ):
        assert reply.status == 403
        assert reply.error.endswith("set [http] token_file")
    assert is_untouched(site)
    assert site.get(SERVICE).status == 200


def test_when_other_machines_can_connect_everything_needs_the_token(open_site: OpenSite) -> None:
    site = open_site(is_loopback=False)
    for path in (*READABLE, "/nothing"):
        for reply in (site.get(path), site.ask("HEAD", path), site.get(path, token="wrong")):
            assert reply.status == 401, path
            assert b"service" not in reply.body
    for path in READABLE:
        assert site.get(path, token=TOKEN).status == 200, path
    assert site.get("/nothing", token=TOKEN).status == 404
    assert site.ask("OPTIONS", f"{SERVICE}/hold").status == 401
    assert site.post(f"{SERVICE}/hold", {"reason": "x"}, token=None).status == 401
    assert site.post(f"{SERVICE}/hold", {"reason": "x"}).status == 200


def test_when_other_machines_can_connect_and_no_token_is_configured_nothing_is_shown(
    open_site: OpenSite,
) -> None:
    site = open_site(is_loopback=False, token=None)
    for path in READABLE:
        reply = site.get(path, token="None")
        assert reply.status == 403, path
        assert reply.error.endswith("set [http] token_file")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9645",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "[2001:db8::1]",
        "::1",
        "",
        "localhost, evil.example",
        "localhost@evil.example",
        "localhost:port",
        "localh\u00f6st",
    ],
)
def test_a_name_that_only_points_here_is_refused(shared_site: Site, host: str) -> None:
    for path in ("/metrics", "/api/v1/services", "/nothing"):
        reply = shared_site.get(path, Host=host)
        assert reply.status == 403
        assert reply.error.endswith("is not this machine: ask for localhost, 127.0.0.1 or [::1]")
    sent = {**JSON, "Authorization": f"Bearer {TOKEN}", "Host": host}
    assert shared_site.ask("POST", f"{SERVICE}/hold", HOLD, sent).status == 403
    assert is_untouched(shared_site)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:9645", "127.0.0.1", "127.0.0.1:80", "127.1.2.3", "[::1]", "[::1]:9645"]
)
def test_this_machines_own_names_are_served(shared_site: Site, host: str) -> None:
    assert shared_site.get("/metrics", Host=host).status == 200


def test_a_second_host_header_is_refused_and_none_at_all_is_served(shared_site: Site) -> None:
    twice = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert shared_site.ask_raw(twice).status == 403
    assert shared_site.ask_raw(b"GET /metrics HTTP/1.0\r\n\r\n").status == 200


def test_any_name_is_served_when_other_machines_can_connect(open_site: OpenSite) -> None:
    site = open_site(is_loopback=False)
    assert site.get("/metrics", token=TOKEN, Host="billing.example").status == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"reason=x"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="reason"\r\n\r\nx\r\n',
        ),
        ("text/plain", HOLD),
        ("text/plain; application/json", HOLD),
        ("application/jsonx", HOLD),
        ("application/vnd.api+json", HOLD),
        (None, HOLD),
    ],
)
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_that_an_html_form_can_send_changes_anything(
    shared_site: Site, kind: str | None, body: bytes, change: str
) -> None:
    sent = {"Authorization": f"Bearer {TOKEN}"} | ({} if kind is None else {"Content-Type": kind})
    reply = shared_site.ask("POST", f"{SERVICE}/{change}", body, sent)
    assert reply.status == 415
    assert reply.error.endswith("send it as application/json")
    assert is_untouched(shared_site)


@pytest.mark.parametrize("change", ["resync", "release"])
def test_an_empty_form_changes_nothing_either(shared_site: Site, change: str) -> None:
    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    assert shared_site.ask("POST", f"{SERVICE}/{change}", b"", sent).status == 415
    assert is_untouched(shared_site)


def test_json_may_name_its_characters(site: Site) -> None:
    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json; charset=utf-8"}
    assert site.ask("POST", f"{SERVICE}/hold", HOLD, sent).status == 200


def test_pages_of_others_are_allowed_nothing(shared_site: Site) -> None:
    asked = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    preflight = shared_site.ask("OPTIONS", f"{SERVICE}/hold", headers=asked)
    assert preflight.status == 405
    for reply in (preflight, shared_site.get("/api/v1/services", Origin="http://evil.example")):
        assert [name for name in reply.headers if name.lower().startswith("access-control")] == []


def test_every_answer_carries_the_headers_that_protect_and_none_that_tells_a_version(site: Site) -> None:
    replies = [
        *(site.get(path) for path in READABLE),
        site.get("/nothing"),
        site.get("/metrics", Host="evil.example"),
        site.post(f"{SERVICE}/hold", {"reason": "x"}, token=None),
        site.post(f"{SERVICE}/resync"),
        site.ask_raw(b"nonsense\r\n\r\n"),
    ]
    for reply in replies:
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert "Server" not in reply.headers
        assert "Set-Cookie" not in reply.headers
        assert not any("waitress" in value.lower() or "python" in value for value in reply.headers.values())


def test_who_is_refused_and_who_changes_something_stands_in_the_log_and_the_token_does_not(
    site: Site,
) -> None:
    with collecting_log() as lines:
        site.post(f"{SERVICE}/hold", {"reason": "x"}, token=f"{TOKEN}-almost")
        site.post(f"{SERVICE}/hold", {"reason": "x"})
    assert [(event, fields["client"]) for event, fields in lines] == [
        ("refused", "127.0.0.1"),
        ("hold", "127.0.0.1"),
    ]
    assert lines[0][1]["path"] == "/api/v1/services/1/hold"
    assert lines[1][1]["service"] == 1
    assert TOKEN not in str(lines)
    assert TOKEN not in repr(vars(site.server))


@pytest.mark.parametrize("token", ["two words", " leading", "line\nend", "t\u00f6ken", "tab\tbed"])
def test_a_token_that_no_header_can_carry_is_a_fault_of_the_configuration(
    shared_site: Site, token: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        WebServer("127.0.0.1", 0, token=token, backend=shared_site)
    [line] = caught.value.errors
    assert line.startswith("http.token_file: ")
    assert token not in line
