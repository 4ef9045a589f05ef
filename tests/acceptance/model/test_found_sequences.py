"""Sequences by which the random lives once found a defect, each as short as it could be made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.model.program import Program

NEXTCLOUD, OWNCLOUD = 0, 1


@pytest.fixture
def program() -> Iterator[Program]:
    with Program() as made:
        yield made


def test_a_moved_service_whose_old_server_is_sick_has_no_other_server_left_out(program: Program) -> None:
    provider = program.provider
    moved, other = provider.order("small", NEXTCLOUD, 2), provider.order("small", OWNCLOUD, 2)
    program.cycle()
    provider.make_sick(NEXTCLOUD, "password")
    provider.move(moved, OWNCLOUD)
    provider.tamper(other, "lift quota")
    report = program.cycle()
    assert [name.partition(" (")[0] for name in report.servers] == ["server 1"]
    assert "server 1" in (program.read_shown()[moved].blocked_by or ""), "the cause is told with the service"
    program.end()


def move_a_lost_account(program: Program) -> int:
    """A service whose account was deleted by hand, and that is moved to the other server then."""
    provider = program.provider
    item = provider.order("small", NEXTCLOUD, 2)
    program.cycle()
    provider.tamper(item, "delete")
    provider.move(item, OWNCLOUD)
    return item


def test_the_card_of_a_moved_service_names_the_server_that_has_its_account(program: Program) -> None:
    provider = program.provider
    item = move_a_lost_account(program)
    program.look(item)
    assert provider.billing.get_params(item)["url"] == provider.clouds[OWNCLOUD].base_url
    assert provider.world.is_delivered(item)
    program.end()


def test_a_new_password_delivers_also_what_a_new_account_still_waits_for(program: Program) -> None:
    provider = program.provider
    item = move_a_lost_account(program)
    old_url = provider.clouds[NEXTCLOUD].base_url
    for requests in range(1, 30):  # killed later and later: first after the create, then after its proof
        program.look(item, crash_at=requests)
        assert provider.billing.get_params(item)["url"] == old_url, "it was killed before the delivery"
        if program.reset_password(item):
            break
    assert provider.world.is_delivered(item)
    program.end()


def test_a_service_that_vanishes_before_it_has_an_account_waits_no_longer(program: Program) -> None:
    provider = program.provider
    item = provider.order("broken", NEXTCLOUD, 2)
    for tariff in ("small", "big", "pro", "bare", "odd"):
        provider.order(tariff, OWNCLOUD, 2)  # so many that one may vanish
    program.cycle()
    assert program.read_shown()[item].state == "quarantined"
    provider.vanish(item)
    program.cycle()
    assert program.read_shown()[item].state == "absent"
    program.end()


@pytest.mark.parametrize("server", [NEXTCLOUD, OWNCLOUD])
def test_an_unproved_account_that_is_disabled_is_not_taken_for_a_strangers(
    program: Program, server: int
) -> None:
    provider = program.provider
    item = provider.order("small", server, 2)
    requests = 1
    while (account := provider.get_account(item)) is None:  # killed later and later, at last at the create
        program.look(item, crash_at=requests)
        requests += 1
    provider.tamper(item, "disable")
    program.look(item)
    shown = program.read_shown()[item]
    assert shown.state == "backoff"
    assert "enable it" in shown.reason
    provider.tamper(item, "enable")
    program.look(item)
    assert provider.get_account(item) is account
    assert provider.world.is_delivered(item), "its password was not forgotten"
    program.end()
