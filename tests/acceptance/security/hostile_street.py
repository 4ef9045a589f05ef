"""A world in which every text that anybody can enter, in BILLmanager or on a server, is hostile."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from reconciler.sandbox.emulator import Fault
from tests.acceptance.conftest import World

MARKER: Final = "PWNED"
HOSTILE: Final[dict[str, tuple[str, ...]]] = {
    "escapes": (
        "\x1b[31mPWNED\x1b]0;PWNED\x07\x1b[2J\x1b[6n",
        "\x9b31mPWNED\x9d0;x\x9c\x90q\x85",
        "PW\x00NED\x01\x08\x08\x7f\x0b\x0c\t\r",
    ),
    "lines": (
        "PWNED\n2026-01-01T00:00:00.000+00:00 error forged service=1\nreconciler: forged",
        "PWNED\u2028x\u2029y\x1c\x1d\x1e",
        "PWNED\u202egpj.exe\u2066\u2069\u200f\u061c\ufeff\u00ad",
    ),
    "languages": (
        "<script>alert('PWNED')</script><img src=x onerror=\"PWNED\">&lt;]]>",
        "=cmd|'/c PWNED'!A1",
        "[bold red]PWNED[/] [link=http://evil.example]PWNED[/link] :smile: [/]",
        "PWNED %s %(x)d {0} {x!r} ${jndi:ldap://evil} $(id) `id` \\x1b[31m \\n",
        "PWNED'; DROP TABLE item; -- \" ` \\'",
    ),
    "endless": ("PWNED" + "A" * 200_000, "PWNED \U0001f600" + "\u0301" * 5000),
}


class Street:
    """Items 1 and 2 are ordinary services with hostile names; the others are wrong in one way each."""

    def __init__(self, world: World, texts: tuple[str, ...]) -> None:
        self.world, self.texts = world, texts
        plan = world.billing.add_plan(texts[0][:250], 5, group="basic")
        for number in (0, 1):
            item = world.sell(plan, number)
            world.billing.change("item", item, name=texts[0][:250], note=texts[0][:250])
        for index, text in enumerate(texts):
            self._fill_servers(text)
            self._fill_billing(text, index % 2)

    def _fill_servers(self, text: str) -> None:
        for number, cloud in enumerate(self.world.land.clouds):
            name = f"user_80{number}{text[:40]}"
            cloud.add_account(name, email=text, display_name=text, groups=[text[:200]])
            cloud.add_account(f"Taken{len(text)}", email=text, display_name=text, groups=[text[:200]])
        # A refusal in the server's own words, a page instead of an answer, a way to somewhere else.
        meta = {"status": "failure", "statuscode": 101, "message": text}
        words = json.dumps({"ocs": {"meta": meta, "data": []}})
        page = f"<html><title>{text}</title><body>{text}</body></html>"
        for cloud, status in ((self.world.nextcloud, 400), (self.world.owncloud, 200)):
            cloud.faults += [
                Fault("create", status=status, content_type="application/json", body=words),
                Fault("create", body=page),
                Fault("create", status=302, headers=(("Location", quote(text[:500], safe=":/[]|=")),)),
            ]

    def _fill_billing(self, text: str, number: int) -> None:
        world, billing = self.world, self.world.billing
        served, broken = billing.add_plan(text[:250], 5), billing.add_plan(text[:250])
        grouped = billing.add_plan(text[:250], 5, group=text)
        world.sell(broken, number)
        world.sell(grouped, number)
        world.sell(served, number, username=text)
        world.sell(served, number, username=f"Taken{len(text)}", url=text)
        self._set_email(world.sell(served, number), f"{text[:200]}@example.net")
        self._set_email(world.sell(served, number), text[:255])
        billing.start_operation(world.sell(served, number), text[:60])
        strange = billing.add_server(text[:60], text, text[:60], text[:60])
        billing.add_server(text[:60], f"http://127.0.0.1:1/{text[:60]}", "admin", "x")
        billing.change("item", world.sell(served), processingmodule=strange)

    def _set_email(self, item: int, email: str) -> None:
        user, service = self.world.billing.table("user"), self.world.billing.table("item")
        with self.world.billing.engine.begin() as connection:
            row = connection.execute(service.select().where(service.c.id == item)).mappings().one()
            change = user.update().where(user.c.account == row["account"])
            connection.execute(change.values(email=email, name=email[:60]))
