"""The supported way to write: BILLmanager's own tool is told credentials and the end of operations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.panel import install_mgrctl, read_calls


@pytest.fixture
def panel(make_world: MakeWorld) -> World:
    """A world whose billing is told everything by mgrctl."""
    world = make_world()
    world.land.configure(install_mgrctl(world))
    return world


def test_a_service_being_opened_is_delivered_and_its_operation_ended_once(panel: World) -> None:
    items = [panel.sell(panel.billing.add_plan("Basic", 5), number, 1) for number in (0, 1)]
    for item in items:
        panel.billing.start_operation(item, "open")
    assert panel.once().is_converged
    assert [panel.billing.get_status(item) for item in items] == [2, 2]
    assert all(map(panel.is_delivered, items))
    assert read_calls(panel).count("service.postopen") == 2
    panel.once_quietly()
    assert read_calls(panel).count("service.postopen") == 2


@pytest.mark.parametrize(
    ("operation", "status", "is_enabled"),
    [("suspend", 3, False), ("resume", 2, True), ("setparam", 2, True), ("close", 4, False)],
)
def test_each_operation_is_ended_by_its_own_call_once_the_account_is_right(
    panel: World, operation: str, status: int, is_enabled: bool
) -> None:
    item = panel.sell(panel.billing.add_plan("Basic", 5), 1)
    panel.once()
    account = panel.get_account(item)
    assert account is not None
    account.is_enabled = not is_enabled
    panel.billing.start_operation(item, operation)
    panel.once()
    assert account.is_enabled is is_enabled
    assert panel.billing.get_status(item) == status
    assert read_calls(panel).count(f"service.post{operation}") == 1


def test_an_operation_is_not_ended_while_its_goal_is_not_reached(panel: World) -> None:
    item = panel.sell(panel.billing.add_plan("Basic", 5), 0, 1)
    panel.billing.start_operation(item, "open")
    panel.nextcloud.maintenance = True
    panel.once()
    assert panel.billing.get_status(item) == 5
    assert read_calls(panel) == []
    panel.nextcloud.maintenance = False
    panel.wait(minutes=2)
    panel.once()
    assert panel.billing.get_status(item) == 2


def test_credentials_that_billing_refused_are_delivered_by_a_later_cycle(panel: World) -> None:
    item = panel.sell(panel.billing.add_plan("Basic", 5))
    tool = panel.land.folder / "mgrctl"
    text = tool.read_text("utf-8")
    tool.write_text("""#!/bin/sh\necho '{"error": {"msg": "no licence"}}'\n""", "utf-8")
    report = panel.once()
    assert [record.item_id for record in report.attention] == [item]
    assert "no licence" in report.attention[0].reason
    account = panel.get_account(item)
    tool.write_text(text, "utf-8")
    assert panel.once().is_converged
    assert panel.get_account(item) is account, "not made again"
    assert panel.is_delivered(item)


def test_no_password_is_left_in_the_journal_after_its_delivery(panel: World) -> None:
    item = panel.sell(panel.billing.add_plan("Basic", 5))
    panel.once()
    password = panel.billing.get_password(item)
    assert password is not None
    for path in panel.land.folder.glob("journal*"):
        assert password.encode() not in Path(path).read_bytes()
    with panel.open() as app:
        assert app.journal.intents.list_undelivered() == set()


def test_what_mgrctl_complains_of_on_standard_error_is_told(panel: World) -> None:
    item = panel.sell(panel.billing.add_plan("Basic", 5))
    tool = panel.land.folder / "mgrctl"
    tool.write_text("#!/bin/sh\necho 'licence has expired' >&2\nexit 1\n", "utf-8")
    report = panel.once()
    assert [record.item_id for record in report.attention] == [item]
    assert "licence has expired" in report.attention[0].reason
