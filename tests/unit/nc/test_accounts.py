"""What the servers say of an account; what they do not say is unknown, never zero."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nc.accounts import (
    parse_flag,
    parse_id,
    parse_ids,
    parse_is_subadmin,
    parse_nextcloud_account,
    parse_owncloud_account,
)
from nc.errors import BadAnswer
from states.model import DEFAULT, UNKNOWN_QUOTA, UNLIMITED, ObservedAccount
from tests.unit.nc.test_envelope import json_values


@pytest.mark.parametrize(
    ("quota", "expected", "used"),
    [
        ({"quota": "none", "used": 0}, UNLIMITED, 0),
        ({"quota": "default", "used": 0}, DEFAULT, 0),
        ({"quota": -3, "used": 164, "free": 7, "total": 9}, UNLIMITED, 164),
        ({"quota": -3.0, "used": 164}, UNLIMITED, 164),
        ({"quota": 1503238554, "used": 5}, 1503238554, 5),
        ({"quota": 1.503238554e9, "used": 5.0}, 1503238554, 5),
        ({"quota": "1073741824", "used": 5}, 1073741824, 5),
        ({"quota": "1.4 GB", "used": 5}, 1503238554, 5),
        ({"quota": 0, "used": 5164}, 0, 5164),
        ({"quota": 647392446434508800, "used": 1}, 647392446434508800, 1),
        ({"used": 5}, UNKNOWN_QUOTA, 5),
        ({"quota": 5}, 5, None),
        ({"quota": None, "used": None}, UNKNOWN_QUOTA, None),
        ({"quota": True, "used": False}, UNKNOWN_QUOTA, None),
        ({"quota": -2, "used": -1}, UNKNOWN_QUOTA, None),
        ({"quota": float("inf"), "used": float("nan")}, UNKNOWN_QUOTA, None),
        ({"quota": 1e300, "used": 1e300}, UNKNOWN_QUOTA, None),
        ({"quota": "lots", "used": "5"}, UNKNOWN_QUOTA, None),
        ({"quota": "", "used": 5}, UNKNOWN_QUOTA, 5),
        ({"quota": ".", "used": 5}, UNKNOWN_QUOTA, 5),
        ({"quota": "9" * 100_000, "used": 5}, UNKNOWN_QUOTA, 5),
        ({"free": -2, "used": 0, "total": -2}, UNKNOWN_QUOTA, None),
        ({"free": -2, "used": 0, "total": -2, "quota": -3}, UNKNOWN_QUOTA, None),
        ({"free": -2, "used": 7, "total": -2, "quota": -3}, UNLIMITED, 7),
        ([], UNKNOWN_QUOTA, None),
        (None, UNKNOWN_QUOTA, None),
        ("none", UNKNOWN_QUOTA, None),
    ],
)
def test_nextcloud_quota_is_read_or_unknown(quota: object, expected: object, used: int | None) -> None:
    account = parse_nextcloud_account({"id": "a", "quota": quota})
    assert (account.quota, account.used_bytes) == (expected, used)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ({"definition": "default"}, DEFAULT),
        ({"definition": "none"}, UNLIMITED),
        ({"definition": "1.4 GB"}, 1503238554),
        ({"definition": "0 B"}, 0),
        ({"definition": " B"}, 0),
        ({"definition": "1.2.3 GB"}, 1288490189),
        ({"definition": "5 apples"}, UNKNOWN_QUOTA),
        ({"total": 5}, UNKNOWN_QUOTA),
        ([], UNKNOWN_QUOTA),
    ],
)
def test_owncloud_quota_is_read_or_unknown(quota: object, expected: object) -> None:
    assert parse_owncloud_account({"enabled": "true", "quota": quota}, "a").quota == expected


def test_whole_account_is_read() -> None:
    data = {
        "id": "user_1",
        "enabled": False,
        "quota": {"quota": 5, "used": 1},
        "email": "a@example.com",
        "groups": ["gold", 7],
        "subadmin": ["gold"],
    }
    groups = frozenset({"gold", "7"})
    assert parse_nextcloud_account(data) == ObservedAccount(
        "user_1", False, 5, 1, "a@example.com", groups, True, True
    )


def test_accounts_of_the_same_groups_share_them() -> None:
    one, other = (parse_nextcloud_account({"id": name, "groups": ["a", "b"]}) for name in ("anna", "berta"))
    assert one.groups is other.groups


def test_entry_of_only_an_id_is_incomplete() -> None:
    expected = ObservedAccount("17", None, UNKNOWN_QUOTA, is_complete=False)
    assert parse_nextcloud_account({"id": 17}) == expected
    assert parse_nextcloud_account([], fallback_id="17") == expected
    with pytest.raises(BadAnswer):
        parse_nextcloud_account({"enabled": True})


@pytest.mark.parametrize("data", [None, [], "x", {}, {"enabled": "maybe"}, {"enabled": 1}])
def test_owncloud_answer_without_enabled_is_no_account(data: object) -> None:
    with pytest.raises(BadAnswer):
        parse_owncloud_account(data, "a")


def test_small_values() -> None:
    assert [parse_flag(one) for one in (True, "true", "FALSE", "yes", 1, None)] == [
        True,
        True,
        False,
        None,
        None,
        None,
    ]
    assert [parse_id(one) for one in ("a", 7, "", True, None, 1.5)] == ["a", "7", None, None, None, None]
    assert parse_ids({"1": "a", "3": "b"}) == frozenset({"a", "b"})
    assert parse_ids(["a", None]) is None
    assert parse_ids("a") is None
    assert parse_ids([]) == frozenset()
    assert [parse_is_subadmin(one) for one in ([], ["g"], {}, {"1": "g"}, None, False)] == [
        False,
        True,
        False,
        True,
        None,
        None,
    ]


fields = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "enabled": json_values,
        "quota": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "quota": json_values,
                "used": json_values,
                "free": json_values,
                "definition": st.text(alphabet="0123456789. KMGTPBnoe\n٣", max_size=8) | json_values,
            },
        ),
        "email": json_values,
        "groups": json_values,
        "subadmin": json_values,
    },
)


@given(fields | json_values)
def test_any_data_is_an_account_or_a_bad_answer(data: Any) -> None:
    for parse in (parse_nextcloud_account, lambda one: parse_owncloud_account(one, "a")):
        try:
            account = parse(data)
        except BadAnswer:
            continue
        assert account.userid
        assert not isinstance(account.quota, int) or account.quota >= 0
        assert account.used_bytes is None or account.used_bytes >= 0
        assert account.is_enabled in {True, False, None}
