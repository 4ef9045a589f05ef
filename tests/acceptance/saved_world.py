"""A whole world at one moment, to be gone back to: databases, key, and what the servers hold."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import World


class SavedWorld:
    """What a world on SQLite was when this was made."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._files = {path: path.read_bytes() for path in self._list_files()}
        self._clouds = [cloud.snapshot() for cloud in world.land.clouds]

    def restore(self) -> None:
        """Put everything back."""
        self._world.billing.engine.dispose()  # a connection must not believe its cache
        for path in self._list_files():
            path.unlink()
        for path, content in self._files.items():
            path.write_bytes(content)
            path.chmod(0o600)
        for cloud, snapshot in zip(self._world.land.clouds, self._clouds, strict=True):
            cloud.restore(snapshot)

    def _list_files(self) -> list[Path]:
        database = Path(self._world.land.database_url.removeprefix("sqlite:///"))
        folder = self._world.land.folder
        return [
            *database.parent.glob(f"{database.name}*"),
            *(path for name in ("journal*", ".journal*", "mgrctl.log") for path in folder.glob(name)),
        ]
