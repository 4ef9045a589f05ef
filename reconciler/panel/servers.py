"""BILLmanager's commands on a server: its connection's check, its groups for the tariff form, its usage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from bm_db import BillingServer
from nc import CloudClient
from nc.errors import CloudError
from reconciler.application import Application
from reconciler.config_values import is_loopback_host
from reconciler.diagnosis import diagnose, tell
from reconciler.fleet import CloudServer, ServerStopped, make_connection
from reconciler.panel.documents import fill_select, get_field
from reconciler.panel.errors import PanelError
from reconciler.panel.messages import RUSSIAN_CURES, Language
from reconciler.panel.session import load_panel_config, opening

_LONGEST: Final = 255
_FIELDS: Final = (
    ("base_url", "url"),
    ("nc_username", "admin_username"),
    ("nc_password", "admin_password"),
)
"""The form's fields, by both names: the specification has other names for them than installations."""


def check_connection(form: Element, language: Language) -> None:
    """Try a server with the very calls that will be used: log in, read, and a change that changes nothing.

    Raises:
        PanelError: it cannot be used, and why.
    """
    config = load_panel_config()
    base_url, username, password = (_read_field(form, names) for names in _FIELDS)
    _check_url(base_url, is_http_allowed=config.nextcloud.allow_http)
    row = BillingServer(
        id=0,
        name=base_url,
        is_active=True,
        base_url=base_url,
        username=username,
        password=password,
        verify_tls=get_field(form, "verify_ssl").lower() not in {"off", "0", "no", "false"},
    )
    client = CloudClient(make_connection(row, config.nextcloud))
    try:
        diagnosis = diagnose(client)
    finally:
        client.close()
    if not diagnosis.is_usable:
        cure = diagnosis.cure if language == "en" else RUSSIAN_CURES.get(diagnosis.cause, diagnosis.cure)
        raise PanelError("wrong_panel_info", "base_url", f"{cure} ({diagnosis.message})")


def _read_field(form: Element, names: Sequence[str]) -> str:
    text = next((found for name in names if (found := get_field(form, name))), "")
    if not text:
        raise PanelError("wrong_panel_info", names[0], f"{names[0]} is empty")
    if len(text) > _LONGEST:
        raise PanelError("wrong_panel_info", names[0], f"{names[0]} is longer than {_LONGEST} characters")
    return text


def _check_url(url: str, *, is_http_allowed: bool) -> None:
    """Refuse what is no address of a start page, and passwords over an open line."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"http", "https"}:
        raise PanelError("wrong_panel_info", "base_url", "base_url must be like https://my.panel.example")
    if parts.scheme == "http" and not (is_http_allowed or is_loopback_host(host)):
        raise PanelError(
            "wrong_panel_info",
            "base_url",
            "base_url must begin with https:// (http:// sends passwords in the clear; to allow it set "
            "[nextcloud] allow_http = true)",
        )


def remember_groups(server_id: int) -> None:
    """Read a server's groups and keep them for the tariff form.

    Raises:
        PanelError: they cannot be read.
    """
    with opening(load_panel_config(), "wrong_panel_info", str(server_id)) as app:
        _read_groups(app, _find(app, server_id))


def fill_tariff_form(form: Element, server_id: int | None) -> None:
    """Fill the select ``usergroup`` with the groups of a server, or of all of them; ids are the keys.

    A server that does not answer counts with the groups it had: a tariff can be changed all the same.

    Raises:
        PanelError: none is known of the server that is meant, or it is not ours.
    """
    with opening(load_panel_config(), "wrong_panel_info", str(server_id or "")) as app:
        servers = app.fleet.list() if server_id is None else [_find(app, server_id)]
        groups: set[str] = set()
        for server in servers:
            groups |= _get_groups(app, server, is_needed=server_id is not None)
    # An operator's present choice stays one, also when the group is gone.
    fill_select(form, "usergroup", sorted((groups | {get_field(form, "usergroup")}) - {""}))


def collect_usage(server_id: int) -> None:
    """Record what all services of a server use today, seen in one walk, and tell that it is complete.

    Raises:
        PanelError: the server could not be walked to its end, or billing not be written to.
    """
    from reconciler.scan import read_desired, scan_server
    from reconciler.usage import record_usage

    with opening(load_panel_config(), "could_not_collect", str(server_id)) as app:
        server = _find(app, server_id)
        try:
            read = read_desired(app, server_id=server_id)
            scan = scan_server(app, server, lambda: read)
        except (CloudError, ServerStopped) as error:
            raise PanelError("could_not_collect", str(server_id), tell(server, error)) from error
        today = app.clock().astimezone().date()
        record_usage(app, server_id, scan.usage, today)
        app.writer.write_usage_complete(server_id, today)


def _find(app: Application, server_id: int) -> CloudServer:
    server = app.fleet.get(server_id)
    if server is None:
        why = f"billing has no server {server_id} of module {app.config.billmanager.module}"
        raise PanelError("missing_server", str(server_id), why)
    return server


def _read_groups(app: Application, server: CloudServer) -> set[str]:
    try:
        server.ensure_ready()
    except (CloudError, ServerStopped) as error:
        raise PanelError("wrong_panel_info", str(server.id), tell(server, error)) from error
    groups = set(server.groups or ())
    app.journal.servers.update(server.id, group_ids=json.dumps(sorted(groups)))
    return groups


def _get_groups(app: Application, server: CloudServer, *, is_needed: bool) -> set[str]:
    try:
        return _read_groups(app, server)
    except PanelError:
        known = app.journal.servers.get(server.id).group_ids
        if known is None and is_needed:
            raise
        return set(json.loads(known or "[]"))
