"""BILLmanager's side of a test: a stand-in for mgrctl that changes the database as BILLmanager would."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.acceptance.conftest import World
from tests.executables import write_python_program

# Of the standard library only, and started without site-packages: tests call it thousands of times.
_STAND_IN = '''"""Stands in for mgrctl: changes the database as BILLmanager would, and logs its calls."""
import base64, json, os, sqlite3, sys

MODULUS, EXPONENT = {modulus}, {exponent}


def encrypt(text):
    """RSA PKCS#1 v1.5, as BILLmanager encrypts."""
    size = (MODULUS.bit_length() + 7) // 8
    padding = bytes(byte % 255 + 1 for byte in os.urandom(size - len(text) - 3))
    number = int.from_bytes(b"\\0\\2" + padding + b"\\0" + text, "big")
    return base64.b64encode(pow(number, EXPONENT, MODULUS).to_bytes(size, "big")).decode()


arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
function, values = arguments[4], dict(argument.split("=", 1) for argument in arguments[5:])
database = sqlite3.connect({database!r}, timeout=30)
item = int(values["elid"])
if function == "service.saveparam":
    name, value = next((n, v) for n, v in values.items() if n not in ("elid", "crypted", "sok"))
    table = "itemparam"
    if values["crypted"] == "on":
        table, value = "itemcryptedparam", encrypt(value.encode())
    database.execute(f"DELETE FROM {{table}} WHERE item = ? AND intname = ?", (item, name))
    database.execute(f"INSERT INTO {{table}} (item, intname, value) VALUES (?, ?, ?)", (item, name, value))
else:
    ends = {{"open": 2, "suspend": 3, "resume": 2, "setparam": 2, "close": 4}}
    status = ends[function.removeprefix("service.post")]
    database.execute("UPDATE item SET status = ? WHERE id = ?", (status, item))
    database.execute("DELETE FROM runningoperation WHERE item = ?", (item,))
database.commit()
print(json.dumps({{"doc": {{"ok": ""}}}}))
'''


def install_mgrctl(world: World) -> dict[str, dict[str, Any]]:
    """Put the stand-in into the world's folder; the settings that use it."""
    folder = world.land.folder
    key = load_pem_private_key((folder / "billmgr.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.public_key().public_numbers()
    source = _STAND_IN.format(
        log=str(folder / "mgrctl.log"),
        database=world.land.database_url.removeprefix("sqlite:///"),
        modulus=numbers.n,
        exponent=numbers.e,
    )
    tool = write_python_program(folder / "mgrctl", source, options="-S -E")
    return {"billmanager": {"writer": "mgrctl", "mgrctl": str(tool)}}


def read_calls(world: World) -> list[str]:
    """The functions that were called, in order."""
    log = world.land.folder / "mgrctl.log"
    if not log.exists():
        return []
    return [json.loads(line)[4] for line in log.read_text("utf-8").splitlines()]
