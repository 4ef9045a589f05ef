"""Rows of billing that cannot be right: each is its service's error, and everybody else is served."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from reconciler.sandbox.billing_data import generate_private_key_pem
from bm_db.crypt import Cipher
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import (
    SERVICE_SECRET,
    check_journal,
    check_words,
    dump_accounts,
    make_clouds,
)

Spoil = Callable[[World, int], None]
ESCAPES: Final = "\x1b]0;pwned\x07\x1b[31mroot\x9b2J"


def set_name(name: str) -> Spoil:
    return lambda world, item: world.billing.set_param(item, "username", name)


def set_column(**columns: Any) -> Spoil:
    return lambda world, item: world.billing.change("item", item, **columns)


def set_email(email: str | None) -> Spoil:
    def spoil(world: World, item: int) -> None:
        user = world.billing.table("user")
        account = get_row(world, "item", item)["account"]
        with world.billing.engine.begin() as connection:
            connection.execute(user.update().where(user.c.account == account).values(email=email))

    return spoil


def set_two_names(world: World, item: int) -> None:
    for name in ("one", "other"):
        world.billing.insert("itemparam", item=item, intname="username", value=name)


def set_tariff(**line: Any) -> Spoil:
    def spoil(world: World, item: int) -> None:
        world.billing.change("item", item, pricelist=world.billing.add_plan("Broken", **line))

    return spoil


def set_strange_measure(world: World, item: int) -> None:
    measure = world.billing.insert("measure", intname="parsec", lessmeasure=None, relation=None)
    set_tariff(quota=5, measure=measure)(world, item)


def set_cipher_text(value: str | None) -> Spoil:
    """A password on record that cannot be read, of an account that is not there."""

    def spoil(world: World, item: int) -> None:
        text = value or Cipher(generate_private_key_pem()).encrypt(SERVICE_SECRET)
        world.billing.set_param(item, "username", f"user_{item}")
        world.billing.insert(world.billing.crypted_table, item=item, intname="userpassword", value=text)

    return spoil


def get_row(world: World, table_name: str, row_id: int) -> dict[str, Any]:
    table = world.billing.table(table_name)
    with world.billing.engine.connect() as connection:
        return dict(connection.execute(table.select().where(table.c.id == row_id)).mappings().one())


@dataclass(frozen=True)
class Flaw:
    """One way in which a service's row is wrong, and what its operator is told."""

    name: str
    spoil: Spoil
    message: str


FLAWS: Final = (
    Flaw("no quota", set_tariff(), r"quota"),
    Flaw("no tariff", set_column(pricelist=None), r"tariff NULL is not in BILLmanager"),
    Flaw("no client", set_column(account=None), r"no user with an e-mail address: enter one"),
    Flaw("no status", set_column(status=None), r"status NULL is not one of 1 to 5: correct it"),
    Flaw("unknown status", set_column(status=7), r"status '7' is not one of 1 to 5: correct it"),
    Flaw("no e-mail", set_email(None), r"no user with an e-mail address: enter one"),
    Flaw("half an e-mail", set_email("nobody"), r"'nobody' is not an e-mail address: correct it"),
    Flaw("two lines of e-mail", set_email("a@b.c\nBcc: x@y.z"), r"'a@b.c\\nBcc: x@y.z' is not an e-mail"),
    Flaw("garbage for a password", set_cipher_text("%%%"), r"password cannot be decrypted.*not base64"),
    Flaw("another key's password", set_cipher_text(None), r"password cannot be decrypted.*this key"),
    Flaw("endless name", set_name("x" * 1_000_000), r"user name 'x{40}…' cannot be an account's: correct"),
    Flaw("terminal escapes", set_name(ESCAPES), r"user name '\\x1b\]0;pwned\\x07\\x1b\[31mroot\\x9b2J'"),
    Flaw("two lines", set_name("bob\nERROR forged"), r"user name 'bob\\nERROR forged' cannot be"),
    Flaw("path", set_name("../../etc"), r"user name '../../etc' cannot be an account's: correct"),
    Flaw("parent folder", set_name(".."), r"user name '..' cannot be an account's: correct"),
    Flaw("administrator", set_name("root"), r"root is an administrator of the server: never touched"),
    Flaw("ourselves", set_name("ADMIN"), r"admin is the account we work with: never touched"),
    Flaw("two names", set_two_names, r"username is recorded 2 times with different values"),
    Flaw("doubled", set_name("Same"), r"service \d+ names the same account Same: rename one"),
    Flaw("doubled but for case", set_name("sAME"), r"service \d+ names the same account sAME: rename one"),
)
FLAWS_OF: Final = {
    "live": (
        Flaw("unknown measure", set_strange_measure, r"parsec"),
        Flaw("no measure", set_tariff(quota=5, measure=None), r"measure"),
        Flaw("less than nothing", set_tariff(quota=-5), r"-5"),
    ),
    "spec": (
        Flaw("quota that is no number", set_tariff(quota="lots"), r"lots"),
        Flaw("less than nothing", set_tariff(quota="-5"), r"-5"),
    ),
    "nextcloud": (Flaw("route", set_name("details"), r'"details" cannot be used: the server\'s interface'),),
    "owncloud": (Flaw("short", set_name("ab"), r'"ab" cannot be used: it needs at least 3 characters'),),
}
NO_NAME: Final = (set_name("   "), set_name(""), lambda world, item: None)
"""A name that is not there: the usual one is taken, and the service is served."""


@dataclass
class Street:
    """A world in which every server has every flaw, with healthy services before, between and after."""

    world: World
    broken: dict[int, Flaw]
    healthy: list[int]


@pytest.fixture(params=[("mariadb", "live"), ("postgres", "spec")], ids=["mariadb-live", "postgres-spec"])
def street(request: pytest.FixtureRequest, make_world: MakeWorld) -> Street:
    kind, variant = request.param
    world = make_world(kind=kind, variant=variant, clouds=make_clouds())
    plan = world.billing.add_plan("Basic", 5, group="basic")
    broken, healthy = {}, []
    for number, cloud in enumerate(world.land.clouds):
        cloud.add_account("root", groups=["admin"])
        flaws = (*FLAWS, *FLAWS_OF[variant], *FLAWS_OF[cloud.product])
        healthy.append(world.sell(plan, number))
        for index, flaw in enumerate(flaws):
            item = world.sell(plan, number)
            flaw.spoil(world, item)
            broken[item] = flaw
            if index == len(flaws) // 2:
                healthy.append(world.sell(plan, number))
        for spoil in NO_NAME:
            healthy.append(world.sell(plan, number))
            spoil(world, healthy[-1])
    return Street(world, broken, healthy)


def is_told(message: str, flaw: Flaw) -> bool:
    """Whether it is the flaw's line: one, short, and without anything a terminal would obey."""
    return re.search(flaw.message, message) is not None and message.isprintable() and len(message) < 300


def test_a_wrong_row_is_its_service_s_error_and_everybody_else_is_served(street: Street) -> None:
    world = street.world
    before = [dump_accounts(cloud) for cloud in world.land.clouds]
    params = {item: world.billing.get_params(item) for item in street.broken}

    for _ in range(2):
        plan = world.run("plan", "--json")
        check_words(plan)
        assert plan.returncode == 2
        planned = {entry["item_id"]: entry for entry in json.loads(plan.stdout)["planned"]}
        assert json.loads(plan.stdout)["errors"] == {}
        for item, flaw in street.broken.items():
            assert planned[item]["state"] == "quarantined", flaw
            assert planned[item]["changes"] == [], flaw
            assert is_told(planned[item]["reason"], flaw), (flaw, planned[item])
        assert {item for item, entry in planned.items() if entry["changes"]} == set(street.healthy)
