"""Only the server that BILLmanager names is ever called: no redirect, proxy or address leads elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from reconciler.sandbox.emulator import Fault
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import check_words, dump_accounts, invoke, make_clouds


class Bystander:
    """Something inside our network that must not be asked for anything."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def was_called(self) -> bool:
        """A connection is in the queue as soon as the caller has it: nobody needs to wait."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def bystander() -> Iterator[Bystander]:
    made = Bystander()
    yield made
    made.listener.close()


@pytest.fixture
def served(make_world: MakeWorld) -> World:
    """A service on each server, served; one more to be made, and one to be closed."""
    world = make_world(clouds=make_clouds(), settings={"guards": {"deletion_grace": "0s"}})
    plan = world.billing.add_plan("Basic", 5, group="basic")
    items = [world.sell(plan, number) for number in (0, 1, 0, 1)]
    world.once()
    for item, cloud in zip(items[2:], world.land.clouds, strict=True):
        world.billing.set_status(item, 4)
        world.sell(plan, world.land.clouds.index(cloud))
        cloud.accounts[f"user_{items[0] if cloud is world.nextcloud else items[1]}"].quota_definition = "1 GB"
    return world


def test_no_redirect_leads_away(served: World, bystander: Bystander) -> None:
    target = f"{bystander.url}/latest/meta-data/"
    redirects = [("*", status) for status in (301, 302, 303, 307, 308)]
    redirects += [
        (name, 302) for name in ("create", "edit", "disable", "delete", "details", "list", "get", "user")
    ]
    for name, status in redirects:
        for cloud in served.land.clouds:
            cloud.faults[:] = [Fault(name, status=status, headers=(("Location", target),), times=None)]
        served.wait(hours=1)
        served.once()
        assert not bystander.was_called(), (name, status)
    check_words(invoke(served.land.config_path, "check-connection"))
    assert not bystander.was_called()


def test_no_proxy_of_the_environment_is_asked(
    served: World, bystander: Bystander, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, bystander.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert served.run("once").returncode == 0
    assert not bystander.was_called()


def test_an_address_that_is_none_is_not_called_and_no_file_is_read(
    served: World, bystander: Bystander
) -> None:
    before = [dump_accounts(cloud) for cloud in served.land.clouds]
    port = bystander.port
    for index, url in enumerate(
        (
            "file:///etc/passwd",
            f"gopher://127.0.0.1:{port}/_x",
            f"ftp://127.0.0.1:{port}/",
            f"unix://127.0.0.1:{port}/",
            f"http://cloud.example@127.0.0.1:{port}/",
            f"http://127.0.0.1:{port}/?x=",
            f"http://127.0.0.1:{port}/#x",
            f"http://127.0.0.1:{port}\\@cloud.example/",
            f"http://127.0.0.1:{port}/\r\nX: y",
            f"//127.0.0.1:{port}/",
            f"127.0.0.1:{port}",
            "http://",
        )
    ):
        served.billing.add_server(f"odd {index}", url, "admin", "secret")
    result = invoke(served.land.config_path, "check-connection")
    said = check_words(result)
    assert result.returncode == 1
    assert len(said.splitlines()) == 14, "each server is told"
    assert not bystander.was_called()
    assert "root:" not in said
    assert [dump_accounts(cloud) for cloud in served.land.clouds] == before
