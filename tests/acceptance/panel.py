"""BILLmanager's side of a test: a stand-in for mgrctl that changes the database as BILLmanager would.

It logs its calls, and can fail, hang, or answer garbage for a function (`misbehave`).
"""

from __future__ import annotations

from ast import literal_eval
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import make_url

from tests.acceptance.conftest import World
from tests.executables import write_python_program

_BEHAVIOUR: Final = "mgrctl-behaviour"

# Tests call it thousands of times: what loads slowly is loaded only where it is needed, and it starts without
# site-packages where the standard library is enough.
_STAND_IN = '''"""Stands in for mgrctl: changes the database as BILLmanager would, and logs its calls."""
import binascii, sys
from posix import urandom

MODULUS, EXPONENT = {modulus}, {exponent}
MYSQL, SQLITE = {mysql!r}, {sqlite!r}


def encrypt(text):
    """RSA PKCS#1 v1.5, as BILLmanager encrypts."""
    size = (MODULUS.bit_length() + 7) // 8
    padding = bytes(byte % 255 + 1 for byte in urandom(size - len(text) - 3))
    number = int.from_bytes(b"\\0\\2" + padding + b"\\0" + text, "big")
    return binascii.b2a_base64(pow(number, EXPONENT, MODULUS).to_bytes(size, "big"), newline=False).decode()


def connect():
    if MYSQL:
        import MySQLdb
        return MySQLdb.connect(**MYSQL), "%s"
    from _sqlite3 import connect
    return connect(SQLITE, timeout=30), "?"


def execute(statement, *values):
    cursor = database.cursor()
    cursor.execute(statement.replace("?", mark), values)
    return cursor


def save_parameter(values):
    name, value = next((n, v) for n, v in values.items() if n not in ("elid", "crypted", "sok"))
    table = "itemparam"
    if values["crypted"] == "on":
        table, value = {crypted_table!r}, encrypt(value.encode())
    execute(f"DELETE FROM {{table}} WHERE item = ? AND intname = ?", values["elid"], name)
    execute(f"INSERT INTO {{table}} (item, intname, value) VALUES (?, ?, ?)", values["elid"], name, value)


def end_operation(function, values):
    ends = {{"open": 2, "suspend": 3, "resume": 2, "setparam": 2, "close": 4}}
    status = ends[function.removeprefix("service.post")]
    execute("UPDATE item SET status = ? WHERE id = ?", status, values["elid"])
    if {has_operations}:
        execute("DELETE FROM runningoperation WHERE item = ?", values["elid"])


def roll_back(values):
    execute(
        "UPDATE item SET pricelist = lastpricelist, lastpricelist = NULL, status = 2 "
        "WHERE id = ? AND lastpricelist IS NOT NULL", values["elid"],
    )
    if {has_operations}:
        execute("DELETE FROM runningoperation WHERE item = ?", values["elid"])


arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(repr(arguments) + "\\n")
function, values = arguments[4], dict(argument.split("=", 1) for argument in arguments[5:])
try:
    with open({behaviour!r}) as file:
        behaviour = eval(file.read()).get(function, {{}})
except FileNotFoundError:
    behaviour = {{}}
if "fail" in behaviour:
    import json
    print(json.dumps({{"doc": {{"error": {{"$type": "failed", "msg": {{"$": behaviour["fail"]}}}}}}}}))
    sys.exit(1)
if "hang" in behaviour:
    import time
    time.sleep(behaviour["hang"])
database, mark = connect()
answer = '{{"ok": ""}}'
if function == "service.saveparam":
    save_parameter(values)
elif function in ("service.setstatus", "service.poststat", "task.edit", "runningoperation.setmanual"):
    pass
elif function == "task.gettype":
    answer = '{{"task_type": {{"$": "task_' + values["operation"] + '"}}}}'
elif function == "runningoperation.edit":
    execute("UPDATE runningoperation SET errorxml = ? WHERE id = ?", values["errorxml"], values["elid"])
elif function == "service.changepricelist.rollback":
    roll_back(values)
else:
    end_operation(function, values)
database.commit()
print(behaviour.get("answer") or '{{"doc": ' + answer + "}}")
'''


def install_mgrctl(world: World) -> dict[str, dict[str, Any]]:
    """Put the stand-in into the world's folder; the settings that use it."""
    folder = world.land.folder
    key = load_pem_private_key((folder / "billmgr.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.public_key().public_numbers()
    url = make_url(world.land.database_url)
    mysql = None
    if url.get_backend_name() == "mysql":
        mysql = {
            "host": url.host,
            "port": url.port,
            "user": url.username,
            "password": url.password or "",
            "database": url.database,
            "charset": "utf8mb4",
        }
    source = _STAND_IN.format(
        log=str(folder / "mgrctl.log"),
        behaviour=str(folder / _BEHAVIOUR),
        mysql=mysql,
        sqlite=url.database,
        crypted_table=world.billing.crypted_table,
        has_operations=world.billing.variant == "live",
        modulus=numbers.n,
        exponent=numbers.e,
    )
    tool = write_python_program(folder / "mgrctl", source, options="" if mysql else "-S -E")
    return {"billmanager": {"writer": "mgrctl", "mgrctl": str(tool)}}


def misbehave(world: World, **functions: dict[str, Any]) -> None:
    """Have functions ("_" for ".") go wrong from now on.

    ``fail``: refused with this message; ``hang``: seconds before anything is done; ``answer``: what is
    answered, though it was done. None given: all is well again.
    """
    named = {name.replace("_", "."): what for name, what in functions.items()}
    (world.land.folder / _BEHAVIOUR).write_text(repr(named), "utf-8")


def list_calls(world: World) -> list[list[str]]:
    """The functions that were called, with their arguments, in order."""
    log = world.land.folder / "mgrctl.log"
    if not log.exists():
        return []
    return [literal_eval(line)[4:] for line in log.read_text("utf-8").splitlines()]


def read_calls(world: World) -> list[str]:
    """The functions that were called, in order."""
    return [call[0] for call in list_calls(world)]
