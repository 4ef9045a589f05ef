"""A sandbox billing database on every product and in both schemas, and bm_db opened on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bm_db import Billing, open_billing
from reconciler.sandbox.billing_data import SandboxBilling, generate_private_key_pem, open_sandbox_engine
from reconciler.sandbox.billing_schema import Variant
from states.model import DesiredService

KINDS = ("sqlite", "mariadb", "postgres")
EVERYWHERE = [(variant, kind) for variant in ("live", "spec") for kind in KINDS]


class BillingUnderTest:
    """A sandbox (what BILLmanager does) and a `Billing` on the same database (what we make of it)."""

    def __init__(self, url: str, variant: Variant, private_key_pem: bytes) -> None:
        self.url = url
        self.engine = open_sandbox_engine(url)
        self.sandbox = SandboxBilling(self.engine, variant, private_key_pem)
        self.private_key_pem = private_key_pem
        self._opened: list[Billing] = []
        self.billing = self.open()
        self.server_id = self.sandbox.add_server(
            "One", "https://one.example.net/cloud/", "admin", "s3cret-admin"
        )
        self.account_id = self.sandbox.add_client("client@example.net")

    def open(self, **options: Any) -> Billing:
        opened = open_billing(
            self.url, **{"password": None, "private_key_pem": self.private_key_pem, **options}
        )
        self._opened.append(opened)
        return opened

    def sell(self, quota: object = 10, status: object = 2, **params: str) -> int:
        """A service on a plan of its own."""
        plan_id = self.sandbox.add_plan("Basic", quota)
        return self.sandbox.add_service(plan_id, self.account_id, self.server_id, status, **params)

    def read(self, item_id: int) -> DesiredService:
        """One service, read in both ways, which must agree."""
        service = self.billing.get_service(item_id)
        assert service is not None
        listed = [each for each in self.billing.list_services() if each.item_id == item_id]
        assert listed == [replace(service, card_state=None)], "the card is only read with a single service"
        return service

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        self.engine.dispose()


Maker = Callable[[Variant, str], BillingUnderTest]


@pytest.fixture(scope="session")
def private_key_pem() -> bytes:
    return generate_private_key_pem()


@pytest.fixture
def make_billing(make_database: Callable[[str], str], private_key_pem: bytes) -> Iterator[Maker]:
    made: list[BillingUnderTest] = []

    def make(variant: Variant, kind: str) -> BillingUnderTest:
        made.append(BillingUnderTest(make_database(kind), variant, private_key_pem))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def world(request: pytest.FixtureRequest, make_billing: Maker) -> BillingUnderTest:
    """Both schemas on all products."""
    return make_billing(*request.param)


@pytest.fixture(params=KINDS)
def live(request: pytest.FixtureRequest, make_billing: Maker) -> BillingUnderTest:
    """The live schema on all products."""
    return make_billing("live", request.param)


@pytest.fixture(params=KINDS)
def spec(request: pytest.FixtureRequest, make_billing: Maker) -> BillingUnderTest:
    """The specification's schema on all products."""
    return make_billing("spec", request.param)
