"""Decides who may ask for what, before anything else looks at a request. Used by `reconciler.web.app`.

On loopback everybody on this machine may look; whoever changes something, or comes from another machine,
needs the token. A browser on this machine must not be made to ask for somebody else: names that only point
here (DNS rebinding) are refused, and no answer allows another origin anything.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

from flask import Request

from reconciler.config_values import is_loopback_host
from reconciler.web.reading import Refused, show

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?")
_READING: Final = ("GET", "HEAD")


class Gate:
    """Lets requests pass, or raises `Refused`."""

    def __init__(self, *, token: str | None, is_loopback: bool) -> None:
        """Take the secret that callers must know; without one, nothing can be changed over HTTP."""
        self._token: Final = None if token is None else token.encode()
        self._is_loopback: Final = is_loopback

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            Refused: 401 the token is missing or wrong; 403 there is none to be known, or the request is
                addressed to a name that is not this machine's.
        """
        host = request.environ.get("HTTP_HOST")
        if self._is_loopback and host is not None and not _is_here(host):
            raise Refused(
                403, f"the host {show(host)!r} is not this machine: ask for localhost, 127.0.0.1 or [::1]"
            )
        # A path or method that is not there (no rule) changes nothing.
        is_changing = request.method not in _READING and request.url_rule is not None
        is_needed = is_changing or not self._is_loopback
        if self._token is None:
            if is_needed:
                raise Refused(403, "no token is configured, so this is not allowed: set [http] token_file")
            return
        given = request.environ.get("HTTP_AUTHORIZATION")
        if given is None:
            if is_needed:
                raise Refused(401, "the token is missing: send the header Authorization: Bearer TOKEN")
            return
        scheme, _, value = given.partition(" ")
        if scheme.lower() != "bearer":
            raise Refused(401, "only bearer tokens are known: send the header Authorization: Bearer TOKEN")
        if not hmac.compare_digest(value.strip(" ").encode("latin-1"), self._token):
            raise Refused(401, "the token is wrong: send what the file named in [http] token_file holds")


def _is_here(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback_host(match[1] or match[2])
