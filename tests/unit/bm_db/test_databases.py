"""The tests' own database servers: what is missing is named, not skipped."""

from __future__ import annotations

import pytest

from tests.databases import ServerUnavailable, _find


def test_missing_server_program_names_its_package() -> None:
    with pytest.raises(ServerUnavailable, match="install the package postgresql"):
        _find("no-such-program", "postgresql")
