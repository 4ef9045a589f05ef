"""Pages as large as the server is quick."""

from __future__ import annotations

import pytest

from nc import CloudClient, ServerConnection
from nc.errors import ServerTimeout
from nc.paging import PageSize
from reconciler.sandbox.emulator import CloudEmulator

LIMIT = 60.0
GOOD = LIMIT / 4


def test_quick_pages_stay_as_large_as_allowed() -> None:
    pages = PageSize(200, LIMIT)
    for seconds in (0.0, 0.1, GOOD / 2, GOOD):
        pages.note(pages.current, seconds)
        assert pages.current == 200


@pytest.mark.parametrize(
    ("seconds", "size"), [(1.01 * GOOD, 198), (2 * GOOD, 100), (4 * GOOD, 50), (1e9, 10)]
)
def test_slow_page_is_followed_by_one_that_takes_as_long_as_is_good(seconds: float, size: int) -> None:
    pages = PageSize(200, LIMIT)
    pages.note(pages.current, seconds)
    assert pages.current == size


def test_page_that_never_came_is_followed_by_a_quarter_until_few_are_left() -> None:
    pages, sizes = PageSize(200, LIMIT), []
    for _ in range(4):
        pages.note_timeout()
        sizes.append(pages.current)
    assert sizes == [50, 12, 10, 10]


def test_pages_grow_again_when_they_take_half_of_what_is_good_and_not_before() -> None:
    pages = PageSize(200, LIMIT)
    pages.note_timeout()
    pages.note(50, 0.51 * GOOD)
    assert pages.current == 50
    for size in (100, 200, 200):
        pages.note(pages.current, 0.5 * GOOD)
        assert pages.current == size


def test_page_that_is_not_full_says_nothing_of_larger_ones() -> None:
    pages = PageSize(200, LIMIT)
    pages.note_timeout()
    for count in (0, 1, 49):
        pages.note(count, 0.0)
        assert pages.current == 50


@pytest.mark.parametrize("most", [0, 1, 5])
def test_small_pages_never_grow_or_vanish(most: int) -> None:
    pages = PageSize(most, LIMIT)
    pages.note_timeout()
    pages.note(pages.current, 1e9)
    pages.note(pages.current, 0.0)
    assert pages.current == max(1, most)


def test_server_too_slow_for_a_page_is_listed_at_the_next_tries() -> None:
    cloud = CloudEmulator("nextcloud")
    names = [f"user_{number}" for number in range(60)]
    for name in names:
        cloud.add_account(name)
    cloud.settings.account_seconds = 0.1  # 6 s a page of all
    cloud.start()
    connection = ServerConnection(
        cloud.base_url,
        cloud.admin_user,
        cloud.admin_password,
        page_size=64,
        read_timeout_seconds=5.0,
        total_timeout_seconds=5.0,
    )
    client = CloudClient(connection)
    try:
        client.connect()
        with pytest.raises(ServerTimeout):
            list(client.list_accounts())
        assert {account.userid for account in client.list_accounts()} >= set(names)
    finally:
        client.close()
        cloud.stop()
