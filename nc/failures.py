"""What a failed attempt to talk HTTP is called: the exceptions of five libraries to one of ours.

Used by `nc.transport`.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import zlib
from collections.abc import Iterator
from typing import Final

import requests
import urllib3.exceptions

from nc.envelope import clean_text
from nc.errors import AddressRefused, BadAnswer, CloudError, ServerTimeout, ServerUnreachable, TlsFailure

FOREIGN: Final = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    zlib.error,
)
"""Everything that requests, urllib3, http.client, ssl and zlib raise while a request is made and read."""

_TIMEOUTS: Final = (
    TimeoutError,
    urllib3.exceptions.TimeoutError,
    requests.exceptions.Timeout,
)
_TLS: Final = (ssl.SSLError, ssl.CertificateError, urllib3.exceptions.SSLError, requests.exceptions.SSLError)
_HANG_UPS: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_BAD_ADDRESS: Final = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,  # a name that cannot be written as one
)


def _is_timeout(chain: list[BaseException]) -> bool:
    # For urllib3 a refused connection is a kind of connect time-out.
    return any(
        isinstance(one, _TIMEOUTS) and not isinstance(one, urllib3.exceptions.NewConnectionError)
        for one in chain
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything it wraps; the libraries hide causes in four different places."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def name_failure(
    error: BaseException, host: str, *, was_connected: bool, is_expired: bool, limit_seconds: float
) -> CloudError:
    """Our error for a foreign one.

    Args:
        error: what was caught.
        host: the server, for the message.
        was_connected: the connection (TLS included) had been opened.
        is_expired: the request's total time was over.
        limit_seconds: that total time.
    """
    chain = list(_chain(error))

    def has(kinds: tuple[type[BaseException], ...]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if is_expired:
        return ServerTimeout(f"{host} gave no complete answer within {limit_seconds:g} seconds")
    if not was_connected:
        return _name_opening(chain, host)
    if _is_timeout(chain):
        return ServerTimeout(f"{host} stopped answering")
    if has(_HANG_UPS):
        return ServerUnreachable(f"{host} closed the connection before its answer was complete")
    if has(_TLS):
        return ServerUnreachable(f"the TLS connection to {host} broke")
    if has((http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError, zlib.error)):
        return BadAnswer(f"the answer of {host} is cut short or not HTTP ({_reason(chain)})")
    return ServerUnreachable(f"the connection to {host} broke ({_reason(chain)})")


def _name_opening(chain: list[BaseException], host: str) -> CloudError:
    def has(kinds: tuple[type[BaseException], ...]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if _is_timeout(chain):
        return ServerTimeout(f"{host} did not accept a connection in time")
    if has(_BAD_ADDRESS):
        return AddressRefused(f"{host} is not an address; correct the server's URL in BILLmanager")
    if has((socket.gaierror,)):
        return ServerUnreachable(
            f"the name of {host} cannot be resolved; check the server's URL in BILLmanager"
        )
    if has(_HANG_UPS) or not has(_TLS):
        return ServerUnreachable(f"no connection to {host} ({_reason(chain)})")
    return TlsFailure(
        f"the TLS connection to {host} was refused ({_reason(chain)}); "
        "correct the certificate, or give the authority's file as ca_file"
    )


def _reason(chain: list[BaseException]) -> str:
    """The innermost words: of a certificate error its own, of a system error the system's."""
    for one in reversed(chain):
        if isinstance(one, ssl.SSLCertVerificationError):
            return clean_text(one.verify_message or "certificate not valid", 120)
        if isinstance(one, ssl.SSLError) and one.reason:
            return clean_text(one.reason.replace("_", " ").lower(), 120)
        if isinstance(one, OSError) and one.strerror and not isinstance(one, requests.RequestException):
            return clean_text(one.strerror, 120)
    return clean_text(type(chain[-1]).__name__, 120)
