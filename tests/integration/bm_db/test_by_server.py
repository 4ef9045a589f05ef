"""Services of one server, how many each server has, and which server services are on."""

from __future__ import annotations

from tests.integration.bm_db.conftest import BillingUnderTest


def sell_on(world: BillingUnderTest, server_id: int | None, count: int) -> list[int]:
    plan_id = world.sandbox.add_plan("Basic", 10)
    return [world.sandbox.add_service(plan_id, world.account_id, server_id) for _ in range(count)]


def test_services_of_one_server_are_listed_as_among_all(world: BillingUnderTest) -> None:
    second = world.sandbox.add_server("Two", "https://two.example.net", "admin", "pw")
    items: dict[int, list[int]] = {world.server_id: [], second: []}
    for server_id in (world.server_id, second, world.server_id, second, second):
        items[server_id] += sell_on(world, server_id, 1)
    everything = list(world.billing.list_services())
    for server_id, item_ids in items.items():
        for chunk_size in (1, 2, 1000):
            services = list(world.billing.list_services(server_id=server_id, chunk_size=chunk_size))
            assert [service.item_id for service in services] == item_ids
            assert services == [each for each in everything if each.server_id == server_id]


def test_server_of_another_module_or_without_services_has_none(world: BillingUnderTest) -> None:
    foreign = world.sandbox.add_server("Two", "https://two.example.net", "a", "b", module="pmother")
    empty = world.sandbox.add_server("Three", "https://three.example.net", "a", "b")
    sell_on(world, foreign, 1)
    for server_id in (foreign, empty, 4711):
        assert list(world.billing.list_services(server_id=server_id)) == []


def test_services_are_counted_by_server(world: BillingUnderTest) -> None:
    second, empty = (
        world.sandbox.add_server(name, f"https://{name}.example.net", "admin", "pw") for name in ("b", "c")
    )
    foreign = world.sandbox.add_server("d", "https://d.example.net", "a", "b", module="pmother")
    counts = {world.server_id: 3, second: 2, empty: 0}
    others: dict[int | None, int] = {foreign: 4, None: 1}
    for server_id, count in (*counts.items(), *others.items()):
        item_ids = sell_on(world, server_id, count)
        if item_ids:  # an add-on is no service
            world.sandbox.insert("item", parent=item_ids[0], processingmodule=server_id, status=2)
    assert world.billing.count_services() == counts


def test_servers_of_services_are_told(world: BillingUnderTest) -> None:
    foreign = world.sandbox.add_server("d", "https://d.example.net", "a", "b", module="pmother")
    ours, theirs, nobodys = (sell_on(world, each, 1)[0] for each in (world.server_id, foreign, None))
    addon = world.sandbox.insert("item", parent=ours, processingmodule=world.server_id, status=2)
    wanted = [ours, theirs, nobodys, addon, *range(10_000, 12_500)]
    assert world.billing.list_server_ids(wanted) == {ours: world.server_id, theirs: foreign, nobodys: None}
    assert world.billing.list_server_ids([]) == {}
