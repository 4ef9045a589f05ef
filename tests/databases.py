"""Real database servers for the tests: MariaDB and PostgreSQL, started on a free port, stopped by process id.

Called by ``tests/conftest.py`` and by tests that need a server of their own (to kill it). A shared server is
one per test run: the first test that wants it starts a small supervisor (this file run as a program), which
starts the server and waits for the pytest controller to end, however it ends; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import MySQLdb
import psycopg

Kind = Literal["mariadb", "postgres"]
READY_SECONDS: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 0.1
_ENOUGH_BYTES: Final = 2 * 1024**3
_ATTEMPTS: Final = 3
"""Between finding a port free and listening on it another process may take it."""


class ServerUnavailable(AssertionError):
    """A database server cannot be started: a failure of the tests, never a reason to skip them."""


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A running server that lets its administrator in over TCP without a password.

    Attributes:
        kind: which product.
        port: on 127.0.0.1.
        socket: MariaDB's socket file, PostgreSQL's socket directory.
        process_id: of the server.
        admin: user name.
    """

    kind: Kind
    port: int
    socket: str
    process_id: int
    admin: str

    def get_url(self, database: str, *, user: str | None = None) -> str:
        """The URL of a database on it."""
        driver = "mysql+mysqldb" if self.kind == "mariadb" else "postgresql+psycopg"
        return f"{driver}://{user or self.admin}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """A new, empty database; its name."""
        name = f"b{uuid.uuid4().hex[:16]}"
        options = " CHARACTER SET utf8mb4" if self.kind == "mariadb" else ""
        self.execute(f"CREATE DATABASE {name}{options}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {name}" + (" WITH (FORCE)" if self.kind == "postgres" else ""))

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Run statements as the administrator."""
        with contextlib.closing(self.connect(database)) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()

    def connect(self, database: str | None = None) -> Any:
        """A connection of the administrator's that commits by itself."""
        if self.kind == "mariadb":
            return MySQLdb.connect(
                host="127.0.0.1", port=self.port, user=self.admin, db=database or "mysql", autocommit=True
            )
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=self.admin, dbname=database or "postgres", autocommit=True
        )

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        os.kill(self.process_id, signal.SIGKILL)


@contextlib.contextmanager
def running_server(kind: Kind) -> Iterator[DatabaseServer]:
    """A server of one's own, stopped and removed at the end of the block.

    Raises:
        ServerUnavailable: its program is missing or it does not become ready; the message says what to do.
    """
    # Not below pytest's directory: socket paths are short, and the database's user must be able to enter.
    directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=_find_fast_directory()))
    try:
        directory.chmod(0o755)
        prepare, start = _MARIADB if kind == "mariadb" else _POSTGRES
        prepare(directory)
        for attempt in range(1, _ATTEMPTS + 1):
            process, server = start(directory)
            try:
                is_ready = _is_ready(process, server)
                if is_ready:
                    yield server
                    return
            finally:
                _stop(process, kind)
            if attempt == _ATTEMPTS:
                raise ServerUnavailable(f"{kind} did not start:\n{_read_log(directory)}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class RestartableServer:
    """A server of one's own that can be stopped and started again, with its data and on its port."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.kind: Final = kind
        self._directory: Final = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _find_free_port()
        self.server: DatabaseServer

    def start(self) -> None:
        """Start it, and wait until it lets us in.

        Raises:
            ServerUnavailable: it does not become ready.
        """
        _, start = _MARIADB if self.kind == "mariadb" else _POSTGRES
        self._process, self.server = start(self._directory, self._port)
        if not _is_ready(self._process, self.server):
            raise ServerUnavailable(f"{self.kind} did not start:\n{_read_log(self._directory)}")

    def stop(self) -> None:
        """Stop it in good order, and wait for its end."""
        if self._process is not None:
            # PostgreSQL's fast shutdown: what was committed is kept.
            self._process.send_signal(signal.SIGINT if self.kind == "postgres" else signal.SIGTERM)
            self._process.wait(60)


@contextlib.contextmanager
def restartable_server(kind: Kind) -> Iterator[RestartableServer]:
    """A server of one's own, stopped and removed at the end of the block."""
    directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=_find_fast_directory()))
    try:
        directory.chmod(0o755)
        prepare, _ = _MARIADB if kind == "mariadb" else _POSTGRES
        prepare(directory)
        server = RestartableServer(kind, directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class SharedServers:
    """The servers that all tests of one run share, started when they are first asked for."""

    def __init__(self, directory: Path, controller_id: int) -> None:
        """``directory``: the run's own, the same for all workers; ``controller_id``: whose end is theirs."""
        self._directory = directory
        self._controller_id = controller_id

    def get(self, kind: Kind) -> DatabaseServer:
        """The running server.

        Raises:
            ServerUnavailable: it cannot be started.
        """
        answer_file = self._directory / f"{kind}.json"
        with (self._directory / f"{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not answer_file.exists():
                answer_file.write_text(self._start(kind), "utf-8")
            answer = json.loads(answer_file.read_text("utf-8"))
        if "error" in answer:
            raise ServerUnavailable(answer["error"])
        return DatabaseServer(**answer["server"])

    def stop(self) -> None:
        """Stop those that were started and wait for their end."""
        for answer_file in self._directory.glob("*.json"):
            supervisor_id = json.loads(answer_file.read_text("utf-8")).get("supervisor_id")
            if supervisor_id is not None:
                _end_process(supervisor_id)

    def _start(self, kind: Kind) -> str:
        """Start a supervisor and return the one line it writes when its server is ready, or cannot be."""
        with (self._directory / f"{kind}.err").open("wb") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "tests.databases", kind, str(self._controller_id)],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert supervisor.stdout is not None
        with supervisor.stdout as output:
            line = output.readline().decode("utf-8")
        # It goes on by itself: the worker that started it may end before the others.
        supervisor.returncode = 0
        if not line:
            log_text = (self._directory / f"{kind}.err").read_text("utf-8", "replace")
            return json.dumps({"error": f"{kind} could not be started:\n{log_text}"})
        return line


def supervise(kind: Kind, controller_id: int) -> None:
    """Run a server until it is told to stop or the controller has ended."""
    controller = os.pidfd_open(controller_id)
    told, telling = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(telling, b"."))
    try:
        with running_server(kind) as server:
            server_ended = os.pidfd_open(server.process_id)
            print(json.dumps({"server": asdict(server), "supervisor_id": os.getpid()}), flush=True)  # noqa: T201
            select.select([controller, told, server_ended], [], [])
    except ServerUnavailable as exc:
        print(json.dumps({"error": str(exc)}), flush=True)  # noqa: T201


def _end_process(process_id: int) -> None:
    try:
        ended = os.pidfd_open(process_id)
    except ProcessLookupError:
        return
    try:
        os.kill(process_id, signal.SIGTERM)
        select.select([ended], [], [], READY_SECONDS)
    finally:
        os.close(ended)


def _find_fast_directory() -> str | None:
    """Memory, where there is enough of it: creating a table waits for the disk several times."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ENOUGH_BYTES:
        return str(memory)
    return None


def _prepare_mariadb(directory: Path) -> None:
    program = _find("mariadb-install-db", "mariadb-server")
    user = ["--user=root"] if os.geteuid() == 0 else []
    _run(
        [
            program,
            "--no-defaults",
            *user,
            f"--datadir={directory / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        directory,
    )


def _start_mariadb(
    directory: Path, port: int | None = None
) -> tuple[subprocess.Popen[bytes], DatabaseServer]:
    port, socket_file = port or _find_free_port(), directory / "s"
    user = ["--user=root"] if os.geteuid() == 0 else []
    process = _start(
        [
            _find("mariadbd", "mariadb-server"),
            "--no-defaults",
            *user,
            f"--datadir={directory / 'data'}",
            f"--socket={socket_file}",
            f"--port={port}",
            f"--pid-file={directory / 'pid'}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=0",
            "--sync-binlog=0",
            "--max-connections=100",
        ],
        directory,
    )
    return process, DatabaseServer("mariadb", port, str(socket_file), process.pid, "root")


def _prepare_postgres(directory: Path) -> None:
    data = directory / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = _get_postgres_account()
        os.chown(directory, account.pw_uid, account.pw_gid)
        os.chown(data, account.pw_uid, account.pw_gid)
    program = _find("initdb", "postgresql")
    _run(
        [
            *_as_postgres(),
            program,
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-U",
            "postgres",
            "-D",
            str(data),
        ],
        directory,
    )
    # Members of this group must give a password; everybody else is trusted.
    access = data / "pg_hba.conf"
    access.write_text(
        "host all +password_users 127.0.0.1/32 scram-sha-256\n" + access.read_text("utf-8"), "utf-8"
    )


def _start_postgres(
    directory: Path, port: int | None = None
) -> tuple[subprocess.Popen[bytes], DatabaseServer]:
    port = port or _find_free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": directory,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        # Files in the data directory: shared memory of the system would outlive a server that is killed.
        "dynamic_shared_memory_type": "mmap",
        "max_connections": 100,
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [*_as_postgres(), _find("postgres", "postgresql"), "-D", str(directory / "data"), *options]
    process = _start(command, directory)
    return process, DatabaseServer("postgres", port, str(directory), process.pid, "postgres")


def _get_postgres_account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise ServerUnavailable("PostgreSQL must not run as root: install the package postgresql") from None


def _as_postgres() -> list[str]:
    """What a command begins with so that root does not run PostgreSQL. The process stays the same one."""
    if os.geteuid() != 0:
        return []
    account = _get_postgres_account()
    return [
        _find("setpriv", "util-linux"),
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
    ]


def _find(program: str, package: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/bin", *map(str, versions)]
    found = shutil.which(program, path=":".join(places))
    if found is None:
        raise ServerUnavailable(
            f"{program} is missing: install the package {package} (apt-get install {package})"
        )
    return found


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(command: list[str], directory: Path) -> None:
    result = subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode:
        raise ServerUnavailable(
            f"{' '.join(command)} failed:\n{result.stdout.decode('utf-8', 'replace')[-2000:]}"
        )


def _start(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    with (directory / "log").open("ab") as log:
        # A session of its own: Ctrl-C on the tests' terminal must not end the server before the tests.
        return subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _is_ready(process: subprocess.Popen[bytes], server: DatabaseServer) -> bool:
    """Whether it lets us in within the deadline; False when it ended instead."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.connect().close()
        except (MySQLdb.OperationalError, psycopg.OperationalError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_AGAIN_SECONDS)
        else:
            return True
    return False


def _stop(process: subprocess.Popen[bytes], kind: Kind) -> None:
    if process.poll() is None:
        # SIGQUIT is PostgreSQL's immediate shutdown; nothing in the data is worth an orderly one.
        process.send_signal(signal.SIGQUIT if kind == "postgres" else signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read_log(directory: Path) -> str:
    return (directory / "log").read_text("utf-8", "replace")[-2000:]


_MARIADB: Final = (_prepare_mariadb, _start_mariadb)
_POSTGRES: Final = (_prepare_postgres, _start_postgres)

if __name__ == "__main__":
    supervise("mariadb" if sys.argv[1] == "mariadb" else "postgres", int(sys.argv[2]))
