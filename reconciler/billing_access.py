"""Opens BILLmanager's database as a configuration names it.

A room of its own: `pmnextcloud` asks billing before it loads what calls servers and keeps the journal.
"""

from __future__ import annotations

from pathlib import Path

from bm_db import Billing, open_billing, read_db_conf
from bm_db.errors import BillingError
from reconciler.config import Config, ConfigInvalid, read_secret


def check_billing(config: Config) -> list[str]:
    """What is wrong with the database address, the key and the quota sources; nothing is connected."""
    try:
        open_billing_of(config).close()
    except ConfigInvalid as error:
        return error.errors
    return []


def open_billing_of(config: Config) -> Billing:
    """The billing database that a configuration names; nothing is connected yet.

    Raises:
        ConfigInvalid: what it says of it cannot be used.
    """
    section = config.billmanager
    key = None if section.private_key_file is None else _read_bytes(section.private_key_file)
    password: str | None
    try:
        if section.db_conf is not None:
            conf = read_db_conf(section.db_conf)
            url, password = conf.database_url, conf.password
        else:
            file = section.database_password_file
            url, password = section.database_url or "", None if file is None else read_secret(file)
        return open_billing(
            url,
            password=password,
            private_key_pem=key,
            module=section.module,
            quota_sources=section.quota_sources,
        )
    except BillingError as error:  # nothing is connected yet: only settings can be wrong
        raise ConfigInvalid([f"billmanager: {error}"]) from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(
            [f"billmanager.private_key_file: {path} cannot be read: {error.strerror}"]
        ) from error
