"""Loads config.toml: one call gives a checked `Config`, or every fault of the file at once.

Called by the command line before anything else is touched. What keys there are is told by
`reconciler.config_sections`, what a value must look like by `reconciler.config_values`, how a fault
is told by `reconciler.config_faults`; the files that the configuration names are the matter of
`reconciler.config_files`. Everybody else imports all of it from here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from reconciler.config_faults import ConfigInvalid, describe, one_line, shown_path
from reconciler.config_files import check_files, check_permissions, read_secret
from reconciler.config_sections import Config, ServerSettings
from reconciler.config_values import is_loopback_host, split_listen

__all__ = [
    "DEFAULT_PATH",
    "PATH_VARIABLE",
    "Config",
    "ConfigInvalid",
    "ServerSettings",
    "check_files",
    "check_permissions",
    "find_path",
    "load_config",
    "load_private_config",
    "parse_config",
    "read_secret",
]

DEFAULT_PATH: Final = Path("/etc/bill-nextcloud/config.toml")
PATH_VARIABLE: Final = "RECONCILER_CONFIG"
_MAX_FILE_BYTES: Final = 1024 * 1024


def find_path(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The configuration file: ``path`` (``--config``), else $RECONCILER_CONFIG, else `DEFAULT_PATH`."""
    environment = os.environ if environ is None else environ
    return Path(path or environment.get(PATH_VARIABLE) or DEFAULT_PATH)


def load_config(
    path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> Config:
    """The checked configuration; no file that it names is opened.

    Raises:
        ConfigInvalid: the file is missing, unreadable, not TOML, or holds unknown keys or bad
            values (all of them are listed).
    """
    environment = os.environ if environ is None else environ
    file = find_path(path, environment)
    return parse_config(
        _read_toml(file),
        folder=file.absolute().parent,
        credentials_directory=environment.get("CREDENTIALS_DIRECTORY"),
    )


def load_private_config(path: str | os.PathLike[str] | None = None) -> Config:
    """The same for whoever works with it: refused while everybody could read its secrets or change it.

    Raises:
        ConfigInvalid: as for `load_config`, or with every file whose permissions are too wide.
    """
    config = load_config(path)
    if faults := check_permissions(config, find_path(path)):
        raise ConfigInvalid(faults)
    return config


def parse_config(
    data: Mapping[str, Any], *, folder: Path | None = None, credentials_directory: str | None = None
) -> Config:
    """The same from parsed TOML.

    Args:
        data: what ``tomllib`` returns.
        folder: what relative file names count from; the current folder when None.
        credentials_directory: where ``credential:NAME`` stands; None outside a systemd unit.

    Raises:
        ConfigInvalid: with every fault.
    """
    context = {"folder": folder or Path.cwd(), "credentials_directory": credentials_directory}
    errors: list[str] = []
    config: Config | None = None
    try:
        config = Config.model_validate(dict(data), context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
        errors += [describe(detail) for detail in details]
    errors += _find_contradictions(data)
    if errors or config is None:
        raise ConfigInvalid(errors)
    return config


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        cure = f"name one with --config or ${PATH_VARIABLE} (see config.example.toml)"
        raise ConfigInvalid([f"{shown_path(file)}: no such file; {cure}"]) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file's name"
        raise ConfigInvalid([f"{shown_path(file)}: cannot be read: {reason}"]) from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigInvalid([f"{shown_path(file)}: larger than 1 MiB; that is no configuration"])
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigInvalid([f"{shown_path(file)}: not UTF-8 text (line {line})"]) from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        # ValueError: a number of thousands of digits; RecursionError: brackets thousands deep.
        reason = (
            str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too long or too deep"
        )
        raise ConfigInvalid([f"{shown_path(file)}: not valid TOML: {one_line(reason)}"]) from error


def _find_contradictions(data: Mapping[str, Any]) -> Iterator[str]:
    """Faults between keys. Looks at what is written, so that a bad value elsewhere does not hide them."""
    billmanager = data.get("billmanager", {})
    if isinstance(billmanager, Mapping):
        has_url, has_conf = "database_url" in billmanager, "db_conf" in billmanager
        if has_url and has_conf:
            yield "billmanager: database_url and db_conf are both given; keep one of them"
        elif not has_url and not has_conf:
            yield "billmanager: database_url or db_conf is needed to find BILLmanager's database"
        if has_conf and "database_password_file" in billmanager:
            yield "billmanager.database_password_file: db_conf has its own password; remove one of the two"
    http = data.get("http", {})
    if isinstance(http, Mapping) and isinstance(http.get("listen"), str) and "token_file" not in http:
        try:
            host, _ = split_listen(http["listen"])
        except ValueError:
            return
        if not is_loopback_host(host):
            yield "http.token_file: needed, because http.listen is reachable from other machines"
