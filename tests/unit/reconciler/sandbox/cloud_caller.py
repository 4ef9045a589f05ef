"""A bare HTTP client for the emulator's tests: one connection, cookies kept, nothing interpreted."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from reconciler.sandbox.emulator import CloudEmulator

STRONG = "Kf7-wDx2-Lq9-tR4"


@dataclass(frozen=True)
class Heard:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> int:
        return int(json.loads(self.body)["ocs"]["meta"]["statuscode"])

    @property
    def message(self) -> str | None:
        message: str | None = json.loads(self.body)["ocs"]["meta"]["message"]
        return message

    @property
    def data(self) -> Any:
        return json.loads(self.body)["ocs"]["data"]

    @property
    def cookies(self) -> dict[str, str]:
        pairs = (text.partition(";")[0].partition("=") for text in self.headers.get_all("Set-Cookie", []))
        return {name: value for name, _, value in pairs}


class Caller:
    """Asks one emulator, as its administrator unless told otherwise."""

    def __init__(
        self,
        emulator: CloudEmulator,
        user: str | None = None,
        password: str | None = None,
        *,
        keeps_cookies: bool = True,
        tls_context: ssl.SSLContext | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        parts = urlsplit(emulator.base_url)
        self.prefix = parts.path
        self.api = "/ocs/v2.php/cloud" if emulator.is_nextcloud else "/ocs/v1.php/cloud"
        name = emulator.admin_user if user is None else user
        word = password if password is not None else emulator.accounts[name.lower()].password
        self.credentials: str | None = base64.b64encode(f"{name}:{word}".encode()).decode()
        self.keeps_cookies = keeps_cookies
        self.cookies: dict[str, str] = {}
        host, port = str(parts.hostname), int(parts.port or 0)
        self.connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=tls_context)
            if tls_context
            else http.client.HTTPConnection(host, port, timeout=timeout_seconds)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.close()

    def ask(
        self,
        method: str,
        path: str,
        form: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
        **query: object,
    ) -> Heard:
        """Send one request; a path that starts with ``//`` is taken from the server's root."""
        sent = {"OCS-APIRequest": "true", **(headers or {})}
        if self.credentials is not None:
            sent["Authorization"] = f"Basic {self.credentials}"
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urlencode(form, doseq=True).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        full = path[1:] if path.startswith("//") else self.prefix + self.api + path
        text = urlencode({"format": "json", **query}, quote_via=quote)
        self.connection.request(method, f"{full}?{text}", body, sent)
        response = self.connection.getresponse()
        heard = Heard(response.status, response.headers, response.read())
        if self.keeps_cookies:
            self.cookies |= heard.cookies
        return heard

    def edit(self, userid: str, key: str, value: str) -> Heard:
        return self.ask("PUT", f"/users/{quote(userid)}", {"key": key, "value": value})
