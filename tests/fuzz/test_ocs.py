"""Any answer of a server: a call ends with what it promises or a `CloudError`, soon, and without our secrets.

`make fuzz` runs the same properties for longer.
"""

from __future__ import annotations

import base64
import html
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nc.calls import Call, RawAnswer
from nc.dialect import Dialect
from nc.envelope import describe_body, parse_envelope
from nc.errors import BadAnswer, CloudError
from nc.exchange import Answer, Exchange
from nc.model import ServerConnection
from nc.nextcloud import NextcloudDialect
from nc.owncloud import OwncloudDialect
from nc.product import read_status
from nc.transport import Transport
from states.model import UNLIMITED, ObservedAccount
from tests.unit.nc.test_accounts import fields
from tests.unit.nc.test_envelope import json_of, json_values

ADMIN: Final = "adm/in & 'secret' <1>"
PASSWORD: Final = 'ne"w+pässword%'
LONGEST_MESSAGE: Final = 1200

Ask = Callable[[Dialect], Any]
READING: Final[dict[str, Ask]] = {
    "log_in": lambda cloud: cloud.log_in(),
    "get_account": lambda cloud: cloud.get_account("user_1"),
    "list_accounts": lambda cloud: list(cloud.list_accounts(["basic"], None)),
    "list_groups": lambda cloud: cloud.list_groups(),
    "prove_password": lambda cloud: cloud.prove_password("user_1", PASSWORD),
}
CHANGING: Final[dict[str, Ask]] = {
    "create": lambda cloud: cloud.create_account("user_1", PASSWORD, 10**9, "a@b.cc", ["basic"]),
    "create_unlimited": lambda cloud: cloud.create_account("user_1", PASSWORD, UNLIMITED, None, []),
    "set_quota": lambda cloud: cloud.set_quota("user_1", 10**9),
    "set_email": lambda cloud: cloud.set_email("user_1", "a@b.cc"),
    "set_password": lambda cloud: cloud.set_password("user_1", PASSWORD),
    "enable": lambda cloud: cloud.enable("user_1"),
    "disable": lambda cloud: cloud.disable("user_1"),
    "delete": lambda cloud: cloud.delete_account("user_1"),
    "add_to_group": lambda cloud: cloud.add_to_group("user_1", "basic"),
    "remove_from_group": lambda cloud: cloud.remove_from_group("user_1", "basic"),
    "create_group": lambda cloud: cloud.create_group("basic"),
    "prove_write_permission": lambda cloud: cloud.prove_write_permission(),
}
SENDS_PASSWORD: Final = {"prove_password", "create", "create_unlimited", "set_password"}


class Canned(Transport):
    """Gives these answers in turn, and the last one for ever."""

    def __init__(self, connection: ServerConnection, answers: list[RawAnswer]) -> None:
        super().__init__(connection)
        self.answers = answers
        self.given: list[RawAnswer] = []

    def send(self, call: Call) -> RawAnswer:
        assert len(self.given) < 1000, f"{call} is asked without end"
        self.given.append(self.answers[min(len(self.given), len(self.answers) - 1)])
        return self.given[-1]

    def send_as(self, call: Call, username: str, password: str) -> RawAnswer:
        return self.send(call)


codes = st.sampled_from([100, 101, 102, 103, 104, 107, 113, 200, 400, 403, 404, 412, 500, 503, 997, 998])
words = st.text(max_size=30) | st.sampled_from(
    ["User does not exist", "quota", "already exists", "Invalid query", f"no: {ADMIN}", PASSWORD]
)
metas = st.fixed_dictionaries(
    {"statuscode": codes | codes.map(str) | json_values}, optional={"message": words | json_values}
)
data = st.one_of(
    json_values,
    fields,
    st.fixed_dictionaries(
        {"users": st.lists(fields) | st.dictionaries(st.text(max_size=5), fields, max_size=3)}
    ),
    st.fixed_dictionaries({"groups": st.lists(json_values, max_size=4)}),
    st.fixed_dictionaries({"id": st.sampled_from(["user_1", "USER_1", "admin", ".."]) | json_values}),
)
markup = st.text(alphabet="<>/&;ocsmetadu \x00é!-[]", max_size=60)
bodies = st.one_of(
    st.builds(json_of, metas, data),
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    markup.map(lambda text: f"<ocs>{text}</ocs>".encode()),
    st.builds(
        lambda code, text: (
            f"<ocs><meta><statuscode>{code}</statuscode></meta><data>{text}</data></ocs>".encode()
        ),
        codes,
        markup,
    ),
    st.sampled_from([ADMIN, html.escape(PASSWORD), f"<title>{ADMIN}</title>"]).map(
        lambda text: f"<html>{text}</html>".encode()
    ),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": st.text(max_size=12) | st.sampled_from(["120", "-1", "Wed, 21 Oct 2015 07:28:00 GMT"]),
        "x-nextcloud-maintenance-mode": st.sampled_from(["1", "0", ""]),
    },
)
answers = st.lists(
    st.builds(
        RawAnswer,
        st.sampled_from([200, 200, 400, 401, 403, 404, 412, 429, 500, 503]) | st.integers(100, 599),
        headers,
        bodies,
        st.none() | st.sampled_from(["ocabcdefghij", "oczzzzzzzzzz"]),
    ),
    min_size=1,
    max_size=3,
)
dialects = st.sampled_from([NextcloudDialect, OwncloudDialect])


def ask(kind: type[Dialect], given_answers: list[RawAnswer], name: str) -> tuple[Any, Canned]:
    """What a call makes of these answers: a value, or the error, once its message is sure to be harmless."""
    connection = ServerConnection("http://cloud.example", "admin", ADMIN, requests_per_second=0)
    transport = Canned(connection, given_answers)
    exchange = Exchange(transport, None)
    exchange.expect_instance("ocabcdefghij")
    cloud = kind(exchange, connection)
    cloud.api_user = "admin"
    try:
        return (READING | CHANGING)[name](cloud), transport
    except CloudError as error:
        check_message(str(error), *([PASSWORD] if name in SENDS_PASSWORD else []))
        return error, transport


def check_message(message: str, *secrets: str) -> None:
    assert message.isprintable()
    assert len(message) < LONGEST_MESSAGE
    for secret in (ADMIN, *secrets):
        for shape in (secret, html.escape(secret), json.dumps(secret)[1:-1], quote_plus(secret)):
            assert shape not in message


@given(dialects, answers, st.sampled_from(sorted(READING)))
def test_whatever_is_answered_a_question_is_answered_or_fails(
    kind: type[Dialect], given_answers: list[RawAnswer], name: str
) -> None:
    result, transport = ask(kind, given_answers, name)
    if name != "get_account" or isinstance(result, CloudError):
        return
    if result is None:  # "no such user" is said, never guessed
        last = transport.given[-1]
        envelope = parse_envelope(last.body)
        assert envelope.code == (404 if kind is NextcloudDialect else 998)
        assert last.status == 404 or kind is OwncloudDialect
    else:
        assert isinstance(result, ObservedAccount)
        assert result.userid.casefold() == "user_1"
        assert result.is_enabled is not None
        assert result.groups is not None


@given(dialects, answers, st.sampled_from(sorted(CHANGING)))
def test_whatever_is_answered_a_change_is_done_only_when_the_server_says_so(
    kind: type[Dialect], given_answers: list[RawAnswer], name: str
) -> None:
    result, transport = ask(kind, given_answers, name)
    if isinstance(result, CloudError):
        return
    first = transport.given[0]
    envelope = parse_envelope(first.body)
    assert Answer(first.status, envelope.code, "", None).is_success
    assert first.instance_id != "oczzzzzzzzzz", "another installation has done it"


@given(answers)
def test_whatever_status_says_it_is_a_product_or_an_error(given_answers: list[RawAnswer]) -> None:
    connection = ServerConnection("http://cloud.example", "admin", ADMIN, requests_per_second=0)
    try:
        status = read_status(Exchange(Canned(connection, given_answers), None))
    except CloudError as error:
        check_message(str(error))
    else:
        assert status.version


@pytest.mark.parametrize("kind", [NextcloudDialect, OwncloudDialect])
@pytest.mark.parametrize("name", sorted(SENDS_PASSWORD - {"prove_password"}))
def test_a_password_is_masked_in_the_answers_to_later_calls_too(kind: type[Dialect], name: str) -> None:
    later = RawAnswer(200, {}, json_of({"statuscode": 999, "message": f"was {PASSWORD}?"}), None)
    connection = ServerConnection("http://cloud.example", "admin", ADMIN, requests_per_second=0)
    transport = Canned(connection, [RawAnswer(500, {}, b"", None), later])
    cloud = kind(Exchange(transport, None), connection)
    with pytest.raises(CloudError):
        CHANGING[name](cloud)
    with pytest.raises(CloudError, match=r"was \*\*\*\?"):
        cloud.get_account("user_1")


secrets = st.text(min_size=4, max_size=20).filter(lambda text: text.strip("* \t") == text)
PAGES: Final[list[Callable[[str], str]]] = [
    lambda secret: f"wrong: {secret}!",
    lambda secret: f"<html><title>Error for {html.escape(secret)}</title></html>",
    lambda secret: f"<html><body>password={quote_plus(secret)}&x=1</body></html>",
    lambda secret: json.dumps({"password": secret}),
    lambda secret: json.dumps({"password": secret}).replace("/", "\\/"),
    lambda secret: f"Authorization: Basic {base64.b64encode(f'admin:{secret}'.encode()).decode()}",
]


@given(secrets, st.sampled_from(PAGES), st.text(max_size=20))
def test_a_secret_that_comes_back_in_any_shape_is_masked(
    secret: str, make: Callable[[str], str], rest: str
) -> None:
    page = make(secret)
    told = describe_body((page + rest).encode("utf-8", "replace"), (secret,))
    shown = page[page.find(secret) :] if secret in page else page
    assert "***" in told, (shown, told)
    token = base64.b64encode(f"admin:{secret}".encode()).decode()
    assert token not in told


# -- large ones: what a hostile server can cost us

_MEASURE: Final = """
import resource, sys, time
from nc.envelope import parse_envelope
from nc.errors import BadAnswer
size = 8 * 1024 * 1024
piece, head, tail = {piece!r}, {head!r}, {tail!r}
body = (head + piece * ((size - 200) // len(piece)) + tail).encode()
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    parse_envelope(body, ("secret", "other"))
except BadAnswer as error:
    assert len(str(error)) < 600
print(time.process_time() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
_JSON: Final = ('{"ocs":{"meta":{"statuscode":100,"message":"x"},"data":[0', "]}}")
_XML: Final = ("<ocs><meta><statuscode>100</statuscode></meta><data>", "</data></ocs>")


@pytest.mark.parametrize(
    ("piece", "around"),
    [
        (",[]", _JSON),
        (',{"a":0}', _JSON),
        (',"\\u0041"', _JSON),
        ("[", _JSON),
        ("9", _JSON),
        ("<a/>", _XML),
        ("<a>", _XML),
        ("<a", ("<html>", "")),
        ("&amp;", _XML),
        ("secre", ("", "")),
        ("\\", ('{"ocs":{"meta":{"statuscode":100,"message":"', '"},"data":[]}}')),
        ("Basic ", ("", "")),
    ],
    ids=range(12),
)
def test_the_largest_answer_costs_a_bounded_time_and_memory(piece: str, around: tuple[str, str]) -> None:
    source = _MEASURE.format(piece=piece, head=around[0], tail=around[1])
    answer = subprocess.run(
        [sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=120
    )
    seconds, mebibytes = answer.stdout.split()
    assert float(seconds) < 20  # of the processor; a second or so when the machine is idle
    # JSON comes in pages of accounts, and takes up to thirty times its size; XML is cut off before.
    assert int(mebibytes) < (800 if around is _JSON else 100)
    with pytest.raises(BadAnswer):
        parse_envelope(b"")
