"""OCS envelopes, good and bad; whatever the bytes, the outcome is an envelope or BadAnswer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nc.envelope import Envelope, clean_text, describe_body, load_json, parse_envelope
from nc.errors import BadAnswer

XML = '<?xml version="1.0"?>\n<ocs><meta><statuscode>{code}</statuscode>{message}</meta>{data}</ocs>'


def json_of(meta: object, data: object = ()) -> bytes:
    return json.dumps({"ocs": {"meta": meta, "data": data}}).encode()


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        (json_of({"statuscode": 200, "message": "OK"}, {"id": "a"}), Envelope(200, "OK", {"id": "a"})),
        (json_of({"statuscode": 100, "message": None}), Envelope(100, "", [])),
        (json_of({"statuscode": "100"}), Envelope(100, "", [])),
        (b"\xef\xbb\xbf" + json_of({"statuscode": 100}), Envelope(100, "", [])),
        (b" \n" + json_of({"statuscode": 1, "message": "a\x00\x1b[31m\nb"}), Envelope(1, "a [31m b", [])),
        (json_of({"statuscode": 1}, "\U0001f600"), Envelope(1, "", "\U0001f600")),
        (
            XML.format(code=997, message="<message>No</message>", data="<data/>").encode(),
            Envelope(997, "No", []),
        ),
        (XML.format(code=100, message="", data="<data>text</data>").encode(), Envelope(100, "", "text")),
        (
            XML.format(
                code=100,
                message="<message/>",
                data="<data><users><element>a</element><element>b</element></users><x> </x></data>",
            ).encode(),
            Envelope(100, "", {"users": ["a", "b"], "x": []}),
        ),
    ],
)
def test_envelope_is_read(body: bytes, envelope: Envelope) -> None:
    assert parse_envelope(body) == envelope


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n",
        b"null",
        b"[]",
        b"{}",
        b'{"ocs":[]}',
        b'{"ocs":{"meta":{"statuscode":100}}}',
        b'{"ocs":{"meta":[],"data":[]}}',
        b'{"ocs":{"data":[]}}',
        json_of({"message": "OK"}),
        json_of({"statuscode": True}),
        json_of({"statuscode": 1.5}),
        json_of({"statuscode": "ok"}),
        json_of({"statuscode": None}),
        json_of({"statuscode": 100, "message": ["x"]}),
        json_of({"statuscode": 100})[:-3],
        b'{"ocs":{"meta":{"statuscode":100},"data":NaN}}',
        b'{"ocs":{"meta":{"statuscode":100},"data":"\\ud800"}}',
        b'{"ocs":{"meta":{"statuscode":100},"data":' + b"9" * 5000 + b"}}",
        b"\xff\xfe",
        b"[" * 500_000,
        b"<html><head><title>Welcome to nginx!</title></head></html>",
        b"<!DOCTYPE html><html><body>It works!</body></html>",
        b"<ocs>",
        b"<ocs><meta/></ocs>",
        b"<ocs><data/></ocs>",
        b"<other><meta><statuscode>100</statuscode></meta><data/></other>",
        XML.format(code="", message="", data="<data/>").encode(),
        b'<?xml version="1.0" encoding="no-such"?><ocs/>',
        BOMB.encode() + b"<ocs><meta><statuscode>1</statuscode></meta><data>&b;</data></ocs>",
        XML.format(code=1, message="", data="<data>" + "<a>" * 60 + "</a>" * 60 + "</data>").encode(),
        XML.format(code=1, message="", data="<data>" + "<a>" * 50_000 + "</a>" * 50_000 + "</data>").encode(),
    ],
    ids=range(32),
)
def test_anything_else_is_a_bad_answer_with_a_short_message(body: bytes) -> None:
    with pytest.raises(BadAnswer) as caught:
        parse_envelope(body)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_html_is_named_by_its_title() -> None:
    assert (
        describe_body(b"\n<HTML><Title>\n Bad\x07 Gateway </title>" + b"x" * 10**6)
        == 'an HTML page "Bad Gateway"'
    )
    assert describe_body(b"<html><body><h1>It works!</h1></body>") == 'an HTML page "It works!"'
    assert describe_body(b"\x00\x01") == 'text ""'
    assert describe_body(b" ") == "an empty answer"


def test_secrets_are_masked_wherever_the_server_repeats_them() -> None:
    secret = 'p&s "1"'
    page = f'form: {secret} url: p%26s+%221%22 json: p&s \\"1\\" {secret}'
    assert clean_text(page, secrets=(secret, "")) == "form: *** url: *** json: *** ***"
    assert secret not in describe_body(page.encode(), (secret,))
    body = json_of({"statuscode": 107, "message": f"{secret} is weak"})
    assert parse_envelope(body, (secret,)).message == "*** is weak"


def test_a_log_in_that_is_repeated_is_masked_and_words_about_it_are_not() -> None:
    assert clean_text("Authorization: Basic YWRtaW46czNjcmV0 refused") == "Authorization: Basic *** refused"
    assert clean_text("basic YWRtaW46czNjcmV0LQ==") == "basic ***"
    words = "Basic authentication required; Basic Authentication failed; Basic Auth; a basic package"
    assert clean_text(words) == words


def test_long_text_is_cut() -> None:
    assert clean_text("a" * 10**6, 10) == "aaaaaaaaa…"
    assert clean_text("a" * 10, 10) == "a" * 10


def test_plain_json_is_read() -> None:
    assert load_json(b'{"installed":true}') == {"installed": True}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def read(body: bytes) -> None:
    try:
        envelope = parse_envelope(body, ("secret",))
    except BadAnswer as error:
        message = str(error)
    else:
        message = envelope.message
        assert isinstance(envelope.code, int)
    assert message.isprintable()
    assert len(message) < 600


@given(st.binary())
def test_any_bytes_are_an_envelope_or_a_bad_answer(body: bytes) -> None:
    read(body)


@given(
    st.fixed_dictionaries({}, optional={"statuscode": json_values, "message": json_values}) | json_values,
    json_values,
)
def test_any_json_is_an_envelope_or_a_bad_answer(meta: object, data: object) -> None:
    read(json_of(meta, data))
    read(json.dumps(data).encode())


@given(st.text(alphabet="<>/&;ocsmetadu \x00é!-[]", max_size=60))
def test_any_markup_is_an_envelope_or_a_bad_answer(text: str) -> None:
    read(f"<ocs>{text}</ocs>".encode())
    read(f"<ocs><meta><statuscode>1</statuscode><message>{text}</message></meta><data/></ocs>".encode())
