"""Alembic's environment and revisions of the journal."""
