"""The journal on a SQLite file, on MariaDB and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.journal import Journal, open_journal

KINDS = ("sqlite", "mariadb", "postgres")


class JournalPlace:
    """Where a journal is; opens it as often as a test wants and looks at what it really holds."""

    def __init__(self, kind: str, url: str, key_file: Path) -> None:
        self.kind = kind
        self.url = url
        self.key_file = key_file
        self._opened: list[Journal] = []
        self._engine = sa.create_engine(url)

    def open(self) -> Journal:
        self._opened.append(open_journal(self.url, self.key_file))
        return self._opened[-1]

    def query(self, statement: sa.Select[*tuple[Any, ...]]) -> list[tuple[object, ...]]:
        """Rows, past the journal's own code."""
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def execute(self, text: str) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(text)

    def list_tables(self) -> set[str]:
        return set(sa.inspect(self._engine).get_table_names())

    @property
    def engine(self) -> sa.Engine:
        return self._engine

    def close(self) -> None:
        for journal in self._opened:
            journal.close()
        self._engine.dispose()


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, make_database: Callable[[str], str], tmp_path: Path
) -> Iterator[JournalPlace]:
    """An empty database and no key yet, on all products."""
    made = JournalPlace(request.param, make_database(request.param), tmp_path / "journal.key")
    yield made
    made.close()


@pytest.fixture
def journal(place: JournalPlace) -> Journal:
    """A new journal on all products."""
    return place.open()
