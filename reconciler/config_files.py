"""config.toml and the files that it names: reads the secrets in them and tells what is wrong with them.

`check_files` is called by ``validate-config`` and before the daemon starts, apart from loading:
``status`` may be run by somebody who cannot read every secret. `check_permissions`, which opens nothing, is
called by every command that works with the configuration. `read_secret` is called by the composition root.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Final

from reconciler.config_faults import ConfigInvalid
from reconciler.config_sections import Config

_MAX_SECRET_BYTES: Final = 1024 * 1024


def read_secret(path: Path) -> str:
    """The text of a secret file without one closing line end.

    Raises:
        ConfigInvalid: missing, unreadable, empty, not UTF-8, or larger than 1 MiB; the message
            never holds the secret.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigInvalid([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(content) > _MAX_SECRET_BYTES:
        raise ConfigInvalid([f"{path}: larger than 1 MiB; that is no secret"])
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # Without its cause: a UnicodeDecodeError carries the bytes.
        raise ConfigInvalid([f"{path}: not UTF-8 text"]) from None
    text = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    if not text:
        raise ConfigInvalid([f"{path}: is empty"])
    return text


def check_permissions(config: Config, config_file: Path) -> list[str]:
    """What others than owner and group could read or change, one line each; nothing is opened.

    Args:
        config: what is in the file.
        config_file: config.toml. It holds no secret: it may be read by everybody, but not be changed.
    """
    faults = []
    mode = _get_mode(config_file)
    if mode & stat.S_IWOTH:
        faults.append(
            f"{config_file} can be changed by everybody (mode {mode:04o}); run: chmod o-w {config_file}"
        )
    secrets = {**_list_secrets(config), "reconciler.journal_key_file": config.reconciler.journal_key_file}
    for key, path in secrets.items():
        faults += _permission_faults(key, path)
    return faults


def check_files(config: Config) -> list[str]:
    """Every fault of the files that the configuration names, one line each; empty when all are in order.

    Secrets must exist, be readable and not be open to everybody; the journal's key may be missing (it is made
    at the first start), but when it is there it must be a key.
    """
    billmanager, reconciler = config.billmanager, config.reconciler
    faults: list[str] = []
    for key, path in _list_secrets(config).items():
        faults += _secret_faults(key, path)
    key_file = reconciler.journal_key_file
    if os.access(key_file, os.F_OK):
        faults += _secret_faults("reconciler.journal_key_file", key_file) or _journal_key_faults(key_file)
    if billmanager.writer == "mgrctl" and not os.access(billmanager.mgrctl, os.X_OK):
        faults.append(
            f"billmanager.mgrctl: {billmanager.mgrctl} is not there or cannot be run; "
            'give its path, or writer = "sql"'
        )
    servers = {f"nextcloud.server.{number}": server for number, server in config.nextcloud.server.items()}
    for name, settings in {"nextcloud": config.nextcloud, **servers}.items():
        if settings.ca_file is not None and not os.access(settings.ca_file, os.R_OK):
            faults.append(f"{name}.ca_file: {settings.ca_file} is not there or cannot be read")
    return faults


def _list_secrets(config: Config) -> dict[str, Path]:
    """The files that must hold a secret, by the key that names them."""
    billmanager = config.billmanager
    files = {
        "billmanager.db_conf": billmanager.db_conf,
        "billmanager.database_password_file": billmanager.database_password_file,
        "billmanager.private_key_file": billmanager.private_key_file,
        "reconciler.journal_password_file": config.reconciler.journal_password_file,
        "http.token_file": config.http.token_file,
    }
    return {key: path for key, path in files.items() if path is not None}


def _secret_faults(key: str, path: Path) -> list[str]:
    try:
        read_secret(path)
    except ConfigInvalid as error:
        return [f"{key}: {line}" for line in error.errors]
    return _permission_faults(key, path)


def _permission_faults(key: str, path: Path) -> list[str]:
    mode = _get_mode(path)
    if mode & stat.S_IRWXO:
        return [f"{key}: {path} is open to everybody (mode {mode:04o}); run: chmod o-rwx {path}"]
    return []


def _get_mode(path: Path) -> int:
    """A file's permission bits; none for what cannot be seen or is no file: whoever reads it says so."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return 0
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else 0


def _journal_key_faults(path: Path) -> list[str]:
    try:  # while it is being changed, it holds several
        keys = [
            base64.b64decode(key, altchars=b"-_", validate=True) for key in read_secret(path).encode().split()
        ]
        is_key = bool(keys) and all(len(key) == 32 for key in keys)
    except binascii.Error:
        is_key = False
    if is_key:
        return []
    fault = (
        f"reconciler.journal_key_file: {path} holds no key (32 bytes in base64); restore it from a backup, "
        "or move it away to have a new one made (passwords that were not yet delivered are lost then)"
    )
    return [fault]
