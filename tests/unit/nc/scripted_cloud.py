"""A server of either product that lets the client connect, and answers everything else by a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.replay import HttpServer, Reply, Seen, ocs

STATUS: dict[str, dict[str, Any]] = {
    "nextcloud": {
        "installed": True,
        "maintenance": False,
        "needsDbUpgrade": False,
        "version": "27.1.0.7",
        "versionstring": "27.1.0",
        "productname": "Nextcloud",
        "extendedSupport": False,
    },
    "owncloud": {
        "installed": True,
        "maintenance": False,
        "needsDbUpgrade": False,
        "version": "10.7.0.4",
        "versionstring": "10.7.0",
        "productname": "ownCloud",
    },
}
ROOT = {"nextcloud": "/ocs/v2.php/cloud", "owncloud": "/ocs/v1.php/cloud"}
OK = {"nextcloud": 200, "owncloud": 100}
ABSENT = {
    "nextcloud": Reply(404, ocs(404, [], "User does not exist")),
    "owncloud": Reply(200, ocs(998, [], "The requested user could not be found")),
}

Script = dict[str, Reply | Callable[[Seen], Reply]]


def account_data(product: str, userid: str, **changes: Any) -> dict[str, Any]:
    """What users/{id} holds."""
    if product == "owncloud":
        return {"enabled": "true", "quota": {"definition": "5 GB"}, "email": None} | changes
    return {
        "id": userid,
        "enabled": True,
        "quota": {"quota": 5368709120, "used": 0},
        "email": None,
        "groups": ["admin"] if userid == "admin" else [],
        "subadmin": [],
    } | changes


def success(product: str, data: object = ()) -> Reply:
    """An answer that says yes."""
    return Reply(200, ocs(OK[product], data))


def scripted(product: str, script: Script) -> HttpServer:
    """A server; the script's keys are "METHOD path", the path below the root of the calls."""
    import json

    root = ROOT[product]
    base: Script = {
        "GET /status.php": Reply(200, json.dumps(STATUS[product]).encode()),
        f"GET {root}/user": success(product, {"id": "admin"}),
        f"GET {root}/users/admin": success(product, account_data(product, "admin")),
        f"GET {root}/users/admin/groups": success(product, {"groups": ["admin"]}),
    }

    def answer(seen: Seen) -> Reply:
        key = f"{seen.method} {seen.path}"
        short = f"{seen.method} {seen.path.removeprefix(root)}"
        reply = script.get(short) or script.get(key) or base.get(key) or Reply(500, b"not in the script")
        return reply if isinstance(reply, Reply) else reply(seen)

    return HttpServer(answer)
