"""Fixtures of the crash tests."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext

import pytest

from reconciler.sandbox.billing_data import generate_private_key_pem
from tests.forking import open_fork_server


@pytest.fixture(scope="session")
def fork_server() -> ForkServerContext:
    """Processes that have loaded the program already."""
    return open_fork_server()


@pytest.fixture(scope="session")
def private_key_pem() -> bytes:
    """A short key: every one of thousands of processes checks it when it is loaded."""
    return generate_private_key_pem(1024)
