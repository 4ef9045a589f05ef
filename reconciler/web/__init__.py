"""The HTTP interface: metrics, health, status and what operators may ask for. Owned by the daemon.

Served by waitress in threads of its own; the daemon hands in a `Backend` and starts and stops a `WebServer`.
"""

from __future__ import annotations

from reconciler.web.backend import Backend, Check
from reconciler.web.server import WebServer

__all__ = ["Backend", "Check", "WebServer"]
