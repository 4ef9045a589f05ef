"""What an operator reads of a verdict: reasons, differences, notes."""

from __future__ import annotations

import pytest

from states import (
    DEFAULT,
    UNKNOWN_QUOTA,
    UNLIMITED,
    Mode,
    Special,
    Wish,
    describe_quota,
)
from tests.unit.states.situations import (
    AS_IS,
    DISABLED,
    GIB,
    HALF_MADE,
    INCOMPLETE,
    NEW,
    OFF,
    SOLD,
    Situation,
    account,
    around,
    made,
    retired,
    sold,
    under,
)


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        (Situation(memory=made(hold_reason="moving house")), ["operator", "moving house"]),
        (Situation(memory=made(quarantine_reason="more than 6 changes")), ["more than 6 changes"]),
        (Situation(sold(wish=Wish.AS_IS, operation="transfer")), ["'transfer'", "left as it is"]),
        (Situation(AS_IS), ["no operation", "left as it is"]),
        (Situation(sold(server_id=4)), ["user_7", "server 3", "server 4", "move it"]),
        (Situation(circumstances=around(namesake=8)), ["service 8", "user_7", "rename"]),
        (Situation(memory=NEW), ["collision", "user_7", "adopt it"]),
        (Situation(None), ["gone from billing", "user_7"]),
        (Situation(observed=account(is_subadmin=True)), ["user_7", "administrator", "never touched"]),
        (Situation(observed=account(quota=0, email="x")), ["differs in quota"]),
        (
            Situation(observed=HALF_MADE, memory=made(is_provisioned=False)),
            ["incomplete: quota, group, email"],
        ),
        (Situation(observed=None), ["that was there is gone"]),
        (Situation(observed=None, memory=NEW), ["no account is there yet"]),
        (
            Situation(sold(is_username_recorded=True, is_password_recorded=True), None, NEW),
            ["that was there is gone"],
        ),
        (Situation(observed=INCOMPLETE), ["incomplete"]),
    ],
)
def test_the_reason_names_the_thing_and_the_cure(situation: Situation, words: list[str]) -> None:
    reason = situation.classify().reason
    assert [word for word in words if word not in reason] == []
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("situation", "wanted", "observed"),
    [
        (Situation(observed=None), "present", "absent"),
        (Situation(DISABLED), "disabled", "enabled"),
        (Situation(SOLD, OFF), "enabled", "disabled"),
        (retired(72), "absent", "present"),
        (Situation(sold(quota=20 * GIB)), "20 GB", "10 GB"),
        (Situation(observed=account(quota=UNLIMITED)), "10 GB", "none"),
        (Situation(observed=account(quota=DEFAULT)), "10 GB", "default"),
        (Situation(observed=account(quota=10 * GIB + 1)), "10737418240 B", "10737418241 B"),
        (Situation(sold(email="new@example.org")), "new@example.org", "client@example.org"),
        (Situation(observed=account(email=None), memory=made(applied_email=None)), SOLD.email, "none"),
        (Situation(sold(group="silver")), "silver", "gold"),
        (Situation(sold(group=None)), "none", "gold"),
        (Situation(observed=account(groups=frozenset())), "gold", "none"),
    ],
)
def test_a_difference_says_what_is_wanted_and_what_is_there(
    situation: Situation, wanted: str, observed: str
) -> None:
    (difference,) = situation.classify().differences
    assert (difference.wanted, difference.observed) == (wanted, observed)


def test_a_group_that_the_server_lacks_is_a_note_and_waits_for_nobody() -> None:
    desired = sold(group="platinum")
    for situation in (Situation(desired), Situation(desired, None, NEW)):
        (note,) = situation.classify().notes
        assert "no group 'platinum'" in note


def test_no_note_tells_of_a_group_that_is_ignored_or_will_be_made_or_may_be_there() -> None:
    desired = sold(group="platinum")
    for circumstances in (
        under(group=Mode.IGNORE),
        under(create_missing_groups=True),
        around(server_groups=None),
    ):
        assert Situation(desired, circumstances=circumstances).classify().notes == ()


def test_a_quota_that_the_server_does_not_say_is_a_note() -> None:
    (note,) = Situation(observed=account(quota=UNKNOWN_QUOTA)).classify().notes
    assert "does not say" in note


def test_a_quota_is_described_in_an_operators_words() -> None:
    assert [describe_quota(quota) for quota in (GIB, UNLIMITED, DEFAULT, UNKNOWN_QUOTA, None)] == [
        "1 GB",
        "none",
        "default",
        "unknown",
        "undefined",
    ]
    assert [repr(quota) for quota in Special] == ["UNLIMITED", "DEFAULT", "UNKNOWN"]


def test_a_password_is_in_no_text_of_a_service() -> None:
    desired = sold(password="S3cret-Words")
    assert "S3cret" not in repr(desired)
    assert "S3cret" not in repr(Situation(desired, None, NEW).classify())
