"""Quota arithmetic, held against what real servers answered and against a second calculation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from states import format_quota, parse_quota_text, to_canonical_bytes, to_storable_bytes
from tests.unit.states.storage import LARGEST_BYTES, find_storable, list_storable, store

RECORDINGS = Path(__file__).parents[2] / "recordings"
KIB, MIB, GIB, TIB, PIB = (1024**power for power in range(1, 6))


@dataclass(frozen=True)
class Exchange:
    """A quota that a real server was sent, and what it said of the account's quota afterwards."""

    server: str
    sent: str
    is_accepted: bool
    answer: int | str

    def __str__(self) -> str:
        return f"{self.server} {self.sent!r}"


def read_exchanges() -> list[Exchange]:
    exchanges = []
    for path in sorted(RECORDINGS.glob("*-quota.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for edit, look in zip(records[::2], records[1::2], strict=True):
            assert (edit["request"]["method"], look["request"]["method"]) == ("PUT", "GET")
            quota = look["response"]["body"]["ocs"]["data"]["quota"]
            exchanges.append(
                Exchange(
                    edit["server"],
                    edit["request"]["form"]["value"],
                    edit["response"]["body"]["ocs"]["meta"]["status"] == "ok",
                    quota["quota"] if edit["server"] == "nextcloud" else quota["definition"],
                )
            )
    return exchanges


EXCHANGES = read_exchanges()
NUMBERS = [exchange for exchange in EXCHANGES if exchange.sent.isdecimal()]
WORDS = [exchange for exchange in EXCHANGES if exchange.sent in {"none", "default"}]
REFUSED = [exchange for exchange in EXCHANGES if not exchange.is_accepted]
NEGATIVE = [exchange for exchange in EXCHANGES if exchange.sent == "-1"]
TEXTS = [one for one in EXCHANGES if one not in [*NUMBERS, *WORDS, *REFUSED, *NEGATIVE]]

powers = st.integers(0, 62).flatmap(lambda power: st.integers(2**power - 1, 2 ** (power + 1) - 1))
near_storable = st.builds(
    lambda size, offset: max(0, size + offset), st.sampled_from(list_storable()), st.integers(-2, 2)
)
sizes = st.one_of(powers, near_storable)


# --- what real servers answered -------------------------------------------------------------------


def test_every_recorded_exchange_is_used() -> None:
    assert {exchange.server for exchange in EXCHANGES} == {"nextcloud", "owncloud"}
    groups = [len(group) for group in (NUMBERS, WORDS, REFUSED, NEGATIVE, TEXTS)]
    assert groups == [30, 4, 4, 2, 8]
    assert sum(groups) == len(EXCHANGES)


@pytest.mark.parametrize("exchange", NUMBERS, ids=str)
def test_a_number_comes_back_as_the_server_said(exchange: Exchange) -> None:
    sent = int(exchange.sent)
    if exchange.server == "nextcloud":
        assert to_canonical_bytes(sent) == exchange.answer
    else:
        assert format_quota(sent) == exchange.answer
        assert parse_quota_text(str(exchange.answer)) == to_canonical_bytes(sent)


@pytest.mark.parametrize("exchange", TEXTS, ids=str)
def test_a_text_is_read_as_the_server_read_it(exchange: Exchange) -> None:
    if exchange.server == "nextcloud":
        assert parse_quota_text(exchange.sent) == exchange.answer
    else:
        assert format_quota(parse_quota_text(exchange.sent)) == exchange.answer


@pytest.mark.parametrize("exchange", [*REFUSED, *WORDS], ids=str)
def test_a_text_without_a_number_is_no_quota_to_us_either(exchange: Exchange) -> None:
    with pytest.raises(ValueError, match="no quota can be read"):
        parse_quota_text(exchange.sent)


@pytest.mark.parametrize("exchange", NEGATIVE, ids=str)
def test_what_a_server_kept_of_a_negative_number_is_read_as_zero(exchange: Exchange) -> None:
    answer = exchange.answer
    assert (answer if isinstance(answer, int) else parse_quota_text(answer)) == 0


# --- sizes that are sold --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sold", "storable", "text"),
    [
        pytest.param(0, 0, "0 B", id="nothing"),
        pytest.param(1, 1, "1 B", id="one byte"),
        pytest.param(1023, 1023, "1023 B", id="the last size kept in bytes"),
        pytest.param(1024, 1024, "1 KB", id="1 KiB"),
        pytest.param(1025, 2048, "2 KB", id="one byte more than 1 KiB"),
        pytest.param(1023 * KIB, 1023 * KIB, "1023 KB", id="the last size kept in KB"),
        pytest.param(1023 * KIB + 1, MIB, "1 MB", id="one byte more than 1023 KiB"),
        pytest.param(MIB - 1, MIB, "1 MB", id="one byte less than 1 MiB"),
        pytest.param(MIB + 1, 1153434, "1.1 MB", id="one byte more than 1 MiB"),
        pytest.param(1500 * MIB, 1610612736, "1.5 GB", id="1500 MiB"),
        pytest.param(1440000000, 1503238554, "1.4 GB", id="1.44 GB of a thousand"),
        pytest.param(1546188227, 1610612736, "1.5 GB", id="1.44 GiB"),
        pytest.param(1500000000, 1503238554, "1.4 GB", id="a billion and a half"),
        pytest.param(10000000000, 10093173146, "9.4 GB", id="ten billion, rounded down by the server"),
        pytest.param(10 * GIB, 10 * GIB, "10 GB", id="10 GiB"),
        pytest.param(100 * GIB, 107374182400, "100 GB", id="100 GiB"),
        pytest.param(GIB - 1, GIB, "1 GB", id="one byte less than 1 GiB"),
        pytest.param(1000 * GIB, 1000 * GIB, "1000 GB", id="1 TB plan, which is 1000 GB"),
        pytest.param(TIB - 1, TIB, "1 TB", id="one byte less than 1 TiB"),
        pytest.param(PIB - 1, PIB, "1 PB", id="one byte less than 1 PiB"),
        pytest.param(2000 * PIB, 2000 * PIB, "2000 PB", id="there is no unit after PB"),
    ],
)
def test_what_is_sent_is_the_next_size_a_server_can_hold(sold: int, storable: int, text: str) -> None:
    assert to_storable_bytes(sold) == storable
    assert to_canonical_bytes(storable) == storable
    assert format_quota(storable) == text


def test_a_half_is_rounded_up_as_php_does() -> None:
    assert format_quota(512 * KIB + 256 * MIB + GIB) == "1.3 GB"
    assert parse_quota_text("0.5 B") == 1


@pytest.mark.parametrize("size", [-1, -(2**63)])
def test_a_negative_size_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match="is negative"):
        to_storable_bytes(size)
    with pytest.raises(ValueError, match="is negative"):
        format_quota(size)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 kb", 1024),
        ("1K", 1024),
        (" 2 GB ", 2 * GIB),
        ("1.GB", GIB),
        (".5 GB", GIB // 2),
        ("7", 7),
        ("7 ", 7),
        ("1 PB", PIB),
        ("GB", 0),
        ("1.5 GiB", 2),
        ("5 GB or\nso MB", 5 * MIB),
    ],
)
def test_a_definition_is_read_by_the_servers_rules(text: str, size: int) -> None:
    assert parse_quota_text(text) == size


def test_a_number_too_long_to_be_a_size_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_quota_text("9" * 30 + " PB")


# --- every size -----------------------------------------------------------------------------------


def test_every_size_a_server_can_hold_comes_back_as_it_was_sent() -> None:
    assert [size for size in list_storable() if to_canonical_bytes(size) != size] == []


@settings(max_examples=1000)
@given(sizes)
@example(LARGEST_BYTES - 1)
def test_a_server_keeps_what_we_foresee(size: int) -> None:
    text, kept = store(size)
    assert format_quota(size) == text
    assert to_canonical_bytes(size) == kept
    assert parse_quota_text(text) == kept


@settings(max_examples=1000)
@given(sizes)
@example(LARGEST_BYTES - 1)
def test_nobody_gets_less_than_was_sold_and_nobody_much_more(sold: int) -> None:
    storable = to_storable_bytes(sold)
    assert storable >= sold
    assert storable == find_storable(sold)
    assert to_canonical_bytes(storable) == storable == to_storable_bytes(storable)


@given(sizes, sizes)
def test_who_buys_more_never_gets_less(one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    assert to_storable_bytes(smaller) <= to_storable_bytes(larger)
    assert to_canonical_bytes(smaller) <= to_canonical_bytes(larger)
