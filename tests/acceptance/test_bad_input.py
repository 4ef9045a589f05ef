"""Rows of billing that cannot be right: each is its service's error, and everybody else is served."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from bm_db.crypt import Cipher
from reconciler.sandbox.billing_data import generate_private_key_pem
from tests.acceptance.conftest import MakeWorld, World
from tests.acceptance.evidence import (
    SERVICE_SECRET,
    check_journal,
    check_words,
    dump_accounts,
    invoke,
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


def get_rows(world: World, item_id: int) -> dict[str, list[Any]]:
    """A service's row and all that hang on it, but for what its card says of its state."""
    names = {"itemparam", world.billing.crypted_table}
    rows: dict[str, list[Any]] = {"item": [get_row(world, "item", item_id)]}
    with world.billing.engine.connect() as connection:
        for name in names:
            table = world.billing.table(name)
            is_kept = table.c.intname != "nextcloud_status"
            query = table.select().where(table.c.item == item_id, is_kept).order_by(table.c.id)
            rows[name] = [tuple(row) for row in connection.execute(query)]
    return rows


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
    Flaw("no quota", set_tariff(), r"no quota found for tariff \d+ .*: add a disk add-on or quota_gb"),
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
    Flaw("ourselves", set_name("ADMIN"), r"(?i)admin is the account we work with: never touched"),
    Flaw("two names", set_two_names, r"username is recorded 2 times with different values"),
    Flaw("doubled", set_name("Same"), r"service \d+ names the same account Same: rename one"),
    Flaw("doubled but for case", set_name("sAME"), r"service \d+ names the same account sAME: rename one"),
)
FLAWS_OF: Final = {
    "live": (
        Flaw("unknown measure", set_strange_measure, r"has measure \d+, which does not lead to byte: choose"),
        Flaw("no measure", set_tariff(quota=5, measure=None), r"has no measure: choose one"),
        Flaw("less than nothing", set_tariff(quota=-5), r"addonlimit '-5' is negative: correct it"),
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
    world, clouds = street.world, street.world.land.clouds
    accounts = [dump_accounts(cloud) for cloud in clouds]
    rows = {item: get_rows(world, item) for item in street.broken}

    planned = check_plan(street, exit_code=2)
    assert {item for item, entry in planned.items() if entry["changes"]} == set(street.healthy)
    assert [dump_accounts(cloud) for cloud in clouds] == accounts, "a plan changes nothing"

    result = world.run("once")
    check_words(result)
    assert result.returncode == 1, "a person is needed"
    told = {int(line.split("\t")[1].split()[1]): line for line in result.stdout.splitlines() if "\t" in line}
    assert told.keys() == street.broken.keys()
    for item, flaw in street.broken.items():
        assert is_told(told[item].split("\t")[3], flaw), (flaw, told[item])
        assert "quarantined" in told[item], f"{flaw.name}: trying again does not help"
    for item in street.healthy:
        assert world.is_delivered(item), item
    made = [set(dump_accounts(cloud)) - before.keys() for cloud, before in zip(clouds, accounts, strict=True)]
    assert made == [
        {f"user_{item}" for item in street.healthy if world.get_cloud(item) is cloud} for cloud in clouds
    ]
    for cloud, before in zip(clouds, accounts, strict=True):
        assert before.items() <= dump_accounts(cloud).items(), "nobody else's account is touched"
    assert {item: get_rows(world, item) for item in street.broken} == rows, (
        "nothing but its state is written to a wrong row"
    )
    check_journal(world.land.folder)

    status = check_words(invoke(world.land.config_path, "status"))
    assert all(is_told(line, flaw) for line, flaw in pair_lines(status, street.broken))
    planned = check_plan(street, exit_code=0)
    assert planned.keys() == street.broken.keys()
    world.now = datetime.now(UTC)
    for cloud in clouds:
        cloud.clear_calls()
    assert {record.item_id for record in world.once().attention} == street.broken.keys()
    assert [cloud.mutating_calls() for cloud in clouds] == [[], []]


def pair_lines(text: str, broken: dict[int, Flaw]) -> Iterator[tuple[str, Flaw]]:
    """Each broken service's line in a table, without its first columns."""
    lines = [line.split("\t") for line in text.splitlines()]
    for item, flaw in broken.items():
        yield next(cells[-1] for cells in lines if len(cells) == 4 and cells[1] == f"service {item}"), flaw


def check_plan(street: Street, *, exit_code: int) -> dict[int, dict[str, Any]]:
    """A plan's services; be sure that every flaw is shown, and nothing would be done about it."""
    result = invoke(street.world.land.config_path, "plan", "--json")
    check_words(result)
    plan = json.loads(result.stdout)
    assert (result.returncode, plan["errors"]) == (exit_code, {})
    planned = {entry["item_id"]: entry for entry in plan["planned"]}
    for item, flaw in street.broken.items():
        assert (planned[item]["state"], planned[item]["changes"]) == ("quarantined", []), flaw
        assert is_told(planned[item]["reason"], flaw), (flaw, planned[item])
    return planned


def test_a_row_that_is_set_right_is_served_at_the_next_cycle(street: Street) -> None:
    world = street.world
    world.once()
    mended = [
        item
        for item, flaw in street.broken.items()
        if flaw.name in {"route", "short", "no quota", "two lines"}
    ]
    plan = world.billing.add_plan("Right", 5)
    for item in mended:
        world.billing.set_param(item, "username", None)
        world.billing.change("item", item, pricelist=plan)
    report = world.once()
    assert {record.item_id for record in report.attention} == street.broken.keys() - set(mended)
    assert all(world.is_delivered(item) for item in mended)


def test_an_account_whose_recorded_password_cannot_be_read_is_served_all_the_same(world: World) -> None:
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number) for number in (0, 1)]
    world.once()
    accounts = [world.get_account(item) for item in items]
    for item, account in zip(items, accounts, strict=True):
        assert account is not None
        account.quota_definition = "1 GB"
        world.billing.set_param(item, "userpassword", None)
        world.billing.insert("itemcryptedparam", item=item, intname="userpassword", value="%%%")
    world.once()
    assert [account.quota_definition for account in accounts if account] == ["5 GB", "5 GB"]
    for item in items:
        record = invoke(world.land.config_path, "status", str(item)).stdout
        assert f"service {item}: its password cannot be decrypted" in record, (
            "told, though nothing waits for it"
        )
