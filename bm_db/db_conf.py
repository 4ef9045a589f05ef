"""BILLmanager's own connection settings, /usr/local/mgr5/etc/billmgr.conf.d/db.conf.

Called by ``reconciler`` when the configuration gives ``db_conf`` instead of ``database_url``. Lines are a
keyword, one blank, and the value up to the end of the line (blanks included).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from bm_db.errors import DbConfUnreadable

_KEYWORDS: Final = {
    "dbhost": "host",
    "dbuser": "user",
    "dbpassword": "password",
    "dbname": "name",
    "dbsocket": "socket",
}


@dataclass(frozen=True, slots=True)
class DbConf:
    """What a db.conf says.

    Attributes:
        database_url: for `bm_db.open_billing`, without the password.
        password: may be empty. Never logged.
    """

    database_url: str
    password: str = field(repr=False)


def read_db_conf(path: str | Path) -> DbConf:
    """Read a db.conf into an URL and a password.

    Unknown lines are ignored; of a repeated keyword the last one counts, as in BILLmanager.

    Raises:
        DbConfUnreadable: the file cannot be read, or DBName or DBUser is missing.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise DbConfUnreadable(
            f"db_conf {path} cannot be read ({reason}): give a file the reconciler may read"
        ) from exc
    found: dict[str, str] = {}
    for line in text.split("\n"):
        keyword, blank, value = line.rstrip("\r").partition(" ")
        if blank and keyword.lower() in _KEYWORDS:
            found[_KEYWORDS[keyword.lower()]] = value
    for name, keyword in (("name", "DBName"), ("user", "DBUser")):
        if not found.get(name):
            raise DbConfUnreadable(f"db_conf {path} has no line {keyword}: give database_url instead")
    socket = found.get("socket")
    url = URL.create(
        "mysql+mysqldb",
        username=found["user"],
        host=found.get("host") or "localhost",
        database=found["name"],
        query={"unix_socket": socket} if socket else {},
    )
    return DbConf(url.render_as_string(hide_password=False), found.get("password", ""))
