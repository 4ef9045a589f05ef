"""The tables as the revisions make them, and what is done with a journal of another version."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from reconciler.journal import JournalError, JournalTooNew
from reconciler.journal.store import HEAD
from reconciler.journal.tables import approval, metadata
from tests.integration.journal.conftest import JournalPlace
from tests.unit.reconciler.samples import NOW, counted_statements, make_desired

WORKERS = 4


def test_head_is_the_newest_revision_there_is() -> None:
    config = Config()
    with resources.as_file(resources.files("reconciler.journal") / "migrations") as folder:
        config.set_main_option("script_location", str(folder))
        assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_revisions_make_exactly_the_tables_that_the_code_knows(place: JournalPlace) -> None:
    place.open()
    options = {"compare_type": True, "compare_server_default": True}
    with place.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, metadata) == []
    assert place.list_tables() == {*metadata.tables, "alembic_version"}


def test_comparison_would_notice_a_difference(place: JournalPlace) -> None:
    place.open()
    place.execute("ALTER TABLE hold ADD COLUMN stray INTEGER")
    with place.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) != []


def test_opening_again_changes_nothing_and_keeps_what_is_there(place: JournalPlace) -> None:
    place.open().services.note_desired([make_desired(7)], NOW)
    with counted_statements(sa.Engine) as statements:
        again = place.open()
    written = [text for text in statements if text.split()[0] in {"CREATE", "INSERT", "UPDATE", "ALTER"}]
    assert written == []
    assert again.services.get(7) is not None


def test_journal_of_a_newer_version_is_refused_and_left_alone(place: JournalPlace) -> None:
    place.open().services.note_desired([make_desired(7)], NOW)
    place.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(JournalTooNew) as caught:
        place.open()
    message = str(caught.value)
    assert "written by a newer version (revision 0999, known is" in message
    assert "upgrade this program" in message
    assert "\n" not in message
    place.execute(f"UPDATE alembic_version SET version_num = '{HEAD}'")
    assert place.open().services.get(7) is not None


def test_what_was_approved_before_approvals_were_bound_counts_no_more(place: JournalPlace) -> None:
    config = Config()
    with resources.as_file(resources.files("reconciler.journal") / "migrations") as folder:
        config.set_main_option("script_location", str(folder))
        with place.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0002")
    columns = "item_id, state, since, reason, attempts, ownership, is_provisioned, version, retired_since"
    for item, state in ((7, "deleted"), (8, "retiring")):
        values = f"{item}, '{state}', 1, '', 0, 'none', false, 0, 1"
        place.execute(f"INSERT INTO service ({columns}) VALUES ({values})")
    approvals = "INSERT INTO approval (guard, item_id, actor, expires_at, used_at) VALUES"
    place.execute(f"{approvals} ('deletions', 7, 'root', 1, 1), ('deletions', 8, 'root', 1, NULL)")
    journal = place.open()
    assert place.query(sa.select(approval.c.outcome).order_by(approval.c.id)) == [("used",), (None,)]
    kept = {item: record.memory.retired_since for item, record in journal.services.load([7, 8]).items()}
    assert kept[7] is None, "an account that comes back has its whole grace"
    assert kept[8] is not None


def test_revision_that_nobody_knows_is_refused_in_one_line(place: JournalPlace) -> None:
    place.open()
    place.execute("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(JournalError) as caught:
        place.open()
    assert "0000" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_of_somebody_else_are_left_alone(place: JournalPlace) -> None:
    place.execute("CREATE TABLE guests (id INTEGER)")
    place.open()
    assert "guests" in place.list_tables()


_OPENER = """
import sys
from pathlib import Path
from reconciler.journal import open_journal

print("ready", flush=True)
sys.stdin.readline()
open_journal(sys.argv[1], Path(sys.argv[2])).close()
"""


def test_new_journal_may_be_opened_by_several_processes_at_once(place: JournalPlace) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENER, place.url, str(place.key_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]
    errors = []
    try:
        for opener in openers:
            assert opener.stdout
            assert opener.stdout.readline() == "ready\n"
    finally:
        for opener in openers:
            assert opener.stdin
            opener.stdin.write("\n")
            opener.stdin.flush()
        errors = [opener.communicate(timeout=60)[1] for opener in openers]
    assert errors == [""] * WORKERS
    place.open().services.note_desired([make_desired(7)], NOW)
