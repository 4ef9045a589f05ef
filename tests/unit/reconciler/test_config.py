"""config.toml: what is accepted, and the exact lines for what is not."""

from __future__ import annotations

import base64
import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from reconciler.config import (
    Config,
    ConfigInvalid,
    check_files,
    find_path,
    load_config,
    parse_config,
    read_secret,
)
from reconciler.config_sections import BillmanagerSection, GuardsSection, Section, ServerSettings
from states.policy import Mode, Policy

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
MINIMAL = '[billmanager]\ndatabase_url = "mysql+mysqldb://reconciler@localhost/billmgr"\n'
NEEDS_SYSTEMD = (
    "needs systemd's credentials, and $CREDENTIALS_DIRECTORY is not set; "
    "run under the unit with LoadCredential=, or name a file"
)
NO_SERVER = "is not a server's number; write [nextcloud.server.3] for processingmodule 3"
NO_LISTEN = 'is not an address to listen on; write "HOST:PORT", such as "127.0.0.1:9645"'
NO_LIST = 'must be a list with at least one source, such as ["addon:disk"]'
NO_DURATION = 'is not a duration; write a number and a unit (ms, s, m, h, d), such as "30s" or "72h"'
NO_SOURCE = "must hold addon:NAME, itemparam:NAME or pricelistparam:NAME only"
PASSWORD_CURE = 'must not hold a password; put it into a file and name that as "database_password_file"'


def errors_of(text: str, folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(tomllib.loads(text), folder=folder or Path("/etc/x"))
    assert str(caught.value) == "\n".join(caught.value.errors)
    return caught.value.errors


def config_of(text: str, **options: Any) -> Config:
    return parse_config(tomllib.loads(text), folder=Path("/etc/x"), **options)


# --- defaults and the example ---------------------------------------------------------------------


def test_a_minimal_file_has_all_the_defaults_of_the_design() -> None:
    config = config_of(MINIMAL)
    assert config.reconciler.mode == "enforce"
    assert config.reconciler.resync_interval == timedelta(minutes=10)
    assert config.guards.deletion_grace == timedelta(hours=72)
    assert config.guards.max_deletions_percent == 1
    assert config.policy.as_policy() == Policy()
    assert config.for_server(7) == ServerSettings()
    assert config.for_server(7).max_response_bytes == 8 * 1024 * 1024
    assert (config.http.host, config.http.port, config.http.is_loopback) == ("127.0.0.1", 9645, True)


def test_example_equals_the_defaults() -> None:
    data = tomllib.loads(EXAMPLE.read_text())
    assert data["billmanager"].pop("database_url") == "mysql+mysqldb://reconciler@localhost/billmgr"
    assert Config.model_validate(data, context={"folder": Path("/nowhere")}) == Config()


def test_example_is_accepted_as_it_stands() -> None:
    assert load_config(EXAMPLE).billmanager.writer == "mgrctl"


def example_keys() -> dict[str, dict[str, bool]]:
    """Section to key to "is commented out" of every line that is, or would be, a setting."""
    sections: dict[str, dict[str, bool]] = {}
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if header := re.fullmatch(r"(?:# )?\[([a-z.0-9]+)\]", line):
            section = header[1]
        elif setting := re.match(r"(# )?([a-z_]+) = ", line):
            sections.setdefault(section, {})[setting[2]] = setting[1] is not None
    return sections


def test_example_lists_every_key_and_comments_out_exactly_those_without_a_default() -> None:
    listed = example_keys()
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        expected = {
            key: value.default is None
            for key, value in section.model_fields.items()
            if value.default is not PydanticUndefined
        }
        if name == "billmanager":
            expected["database_url"] = False
        assert listed.pop(name) == expected
    assert listed.keys() == {"nextcloud.server.3"}
    assert listed["nextcloud.server.3"].keys() <= ServerSettings.model_fields.keys()


def test_every_commented_line_of_the_example_is_accepted_too() -> None:
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert errors_of(text) == [
        "billmanager: database_url and db_conf are both given; keep one of them",
        "billmanager.database_password_file: db_conf has its own password; remove one of the two",
    ]
    config = config_of(text.replace("db_conf = ", "# db_conf = "))
    assert config.for_server(3).timeout == timedelta(seconds=45)
    assert config.for_server(3).ca_file == Path("/etc/ssl/certs/own-ca.pem")


def test_every_setting_of_the_example_has_a_comment_above_its_group() -> None:
    previous = ""
    for line in EXAMPLE.read_text().splitlines():
        if re.match(r"[a-z_]+ = ", line):
            assert previous.startswith("#") or re.match(r"[a-z_]+ = ", previous), line
        previous = line


# --- values that are accepted ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("5s", 5), ("10m", 600), ("72h", 259200), ("2d", 172800), ("1h30m", 5400), ("1.5h", 5400)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    config = config_of(MINIMAL + f'[guards]\ndeletion_grace = "{text}"\n')
    assert config.guards.deletion_grace.total_seconds() == seconds


def test_half_a_second_is_a_timeout() -> None:
    config = config_of(MINIMAL + '[nextcloud]\nconnect_timeout = "500ms"\n')
    assert config.for_server(1).connect_timeout == timedelta(milliseconds=500)


def test_a_server_overrides_only_what_it_names() -> None:
    config = config_of(
        MINIMAL
        + '[nextcloud]\ntimeout = "20s"\nverify_tls = false\npage_size = 50\n'
        + '[nextcloud.server.3]\ntimeout = "45s"\nverify_tls = true\n'
    )
    third, other = config.for_server(3), config.for_server(4)
    assert (third.timeout, third.verify_tls, third.page_size) == (timedelta(seconds=45), True, 50)
    assert (other.timeout, other.verify_tls, other.page_size) == (timedelta(seconds=20), False, 50)
    assert third.concurrency == other.concurrency == 4
    assert third.model_fields_set == {"timeout", "verify_tls", "page_size"}
    assert config_of(MINIMAL).for_server(3).model_fields_set == set()


def test_policy_speaks_the_words_of_states() -> None:
    config = config_of(
        MINIMAL + '[policy]\nquota = "report"\nemail = "ignore"\ncreate_missing_groups = true\n'
    )
    assert config.policy.as_policy() == Policy(
        quota=Mode.REPORT, email=Mode.IGNORE, create_missing_groups=True
    )


def test_relative_names_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[billmanager]\ndatabase_url = "sqlite:///billing.db"\nprivate_key_file = "keys/rsa.pem"\n'
        'mgrctl = "../mgrctl"\n[reconciler]\njournal_url = "sqlite+pysqlite:///var/journal.db"\n'
        '[nextcloud]\nca_file = "ca.pem"\n'
    )
    config = load_config(file)
    assert config.billmanager.database_url == f"sqlite:///{tmp_path}/billing.db"
    assert config.billmanager.private_key_file == tmp_path / "keys/rsa.pem"
    assert config.billmanager.mgrctl == tmp_path / "../mgrctl"
    assert config.reconciler.journal_url == f"sqlite+pysqlite:///{tmp_path}/var/journal.db"
    assert config.nextcloud.ca_file == tmp_path / "ca.pem"


def test_an_absolute_sqlite_file_stays_as_it_is() -> None:
    config = config_of('[billmanager]\ndatabase_url = "sqlite:////srv/billing.db"\n')
    assert config.billmanager.database_url == "sqlite:////srv/billing.db"


def test_an_empty_private_key_means_none() -> None:
    assert config_of(MINIMAL + 'private_key_file = ""\n').billmanager.private_key_file is None


def test_a_systemd_credential_is_found_in_its_directory(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(MINIMAL + 'database_password_file = "credential:db.password"\n')
    config = load_config(file, environ={"CREDENTIALS_DIRECTORY": "/run/credentials/x.service"})
    assert config.billmanager.database_password_file == Path("/run/credentials/x.service/db.password")


def test_db_conf_takes_the_place_of_a_url() -> None:
    config = config_of('[billmanager]\ndb_conf = "/usr/local/mgr5/etc/billmgr.conf.d/db.conf"\n')
    assert config.billmanager.database_url is None


@pytest.mark.parametrize(
    ("listen", "host", "port", "is_loopback"),
    [
        ("[::1]:9645", "::1", 9645, True),
        ("localhost:80", "localhost", 80, True),
        ("0.0.0.0:1", "0.0.0.0", 1, False),
        ("[::]:65535", "::", 65535, False),
        ("billing.example:9645", "billing.example", 9645, False),
    ],
)
def test_listen_names_host_and_port(listen: str, host: str, port: int, is_loopback: bool) -> None:
    http = config_of(MINIMAL + f'[http]\nlisten = "{listen}"\ntoken_file = "/t"\n').http
    assert (http.host, http.port, http.is_loopback) == (host, port, is_loopback)


def test_sections_can_be_made_in_python_too() -> None:
    guards = GuardsSection(deletion_grace=timedelta(0))
    billmanager = BillmanagerSection(database_url="sqlite:////srv/billing.db", db_conf=Path("/x/db.conf"))
    config = Config(billmanager=billmanager, guards=guards)
    assert config.guards.deletion_grace == timedelta(0)
    assert config.billmanager.db_conf == Path("/x/db.conf")


def test_path_comes_from_the_option_then_the_environment_then_etc() -> None:
    environ = {"RECONCILER_CONFIG": "/from/environment.toml"}
    assert find_path("/from/option.toml", environ) == Path("/from/option.toml")
    assert find_path(None, environ) == Path("/from/environment.toml")
    assert find_path(None, {}) == Path("/etc/bill-nextcloud/config.toml")


def test_the_process_environment_is_asked_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text(MINIMAL)
    monkeypatch.setenv("RECONCILER_CONFIG", str(file))
    assert find_path() == file
    assert load_config().billmanager.module == "pmnextcloud"


# --- values that are refused ----------------------------------------------------------------------

BAD_VALUES = [
    # key and value, the line after "section.key"
    (
        "billmanager",
        'module = "pm nextcloud"',
        'module = "pm nextcloud": is not a module\'s name (letters, digits, _ . - and at most 64 of them)',
    ),
    ("billmanager", 'writer = "mgrctrl"', "writer = \"mgrctrl\": must be 'mgrctl', 'sql' or 'none'"),
    ("billmanager", "mgrctl = 5", "mgrctl = 5: must be a text"),
    ("billmanager", 'mgrctl = " "', 'mgrctl = " ": must not be empty'),
    ("billmanager", 'mgrctl = "a\\u0000b"', 'mgrctl = "a\\u0000b": must not hold control characters'),
    (
        "billmanager",
        "quota_sources = []",
        f"quota_sources = []: {NO_LIST}",
    ),
    (
        "billmanager",
        'quota_sources = "addon:disk"',
        f'quota_sources = "addon:disk": {NO_LIST}',
    ),
    (
        "billmanager",
        'quota_sources = ["addon:disk", "disk"]',
        f'quota_sources = ["addon:disk", "disk"]: {NO_SOURCE}',
    ),
    ("billmanager", "quota_sources = [1]", f"quota_sources: {NO_SOURCE}"),
    (
        "billmanager",
        'quota_sources = ["addon:a", "addon:a"]',
        'quota_sources = ["addon:a", "addon:a"]: names a source twice',
    ),
    (
        "billmanager",
        'database_password_file = "credential:../shadow"',
        (
            "database_password_file: names no systemd "
            'credential; write "credential:NAME" as in LoadCredential=NAME:…'
        ),
    ),
    ("reconciler", "journal_key_file = 12345", "journal_key_file: must be a text"),
    ("http", "token_file = 12345", "token_file: must be a text"),
    (
        "http",
        'token_file = "credential:a/b"',
        'token_file: names no systemd credential; write "credential:NAME" as in LoadCredential=NAME:…',
    ),
    ("billmanager", 'database_password_file = "credential:db"', f"database_password_file: {NEEDS_SYSTEMD}"),
    ("billmanager", 'database_password_file = ""', "database_password_file: must not be empty"),
    ("reconciler", 'mode = "dry-run"', "mode = \"dry-run\": must be 'enforce' or 'observe'"),
    ("reconciler", "mode = 2026-01-02", "mode = 2026-01-02: must be 'enforce' or 'observe'"),
    ("reconciler", "workers = 0", "workers = 0: must be at least 1"),
    ("reconciler", "workers = 257", "workers = 257: must be at most 256"),
    ("reconciler", 'workers = "16"', 'workers = "16": must be a whole number'),
    ("reconciler", "workers = true", "workers = true: must be a whole number"),
    ("reconciler", f"workers = 0x{'f' * 5000}", "workers = (a huge number): must be at most 256"),
    (
        "reconciler",
        "poll_interval = 5",
        'poll_interval = 5: must be a text with a unit, such as "30s", "10m", "72h" or "2d"',
    ),
    ("reconciler", 'poll_interval = "5"', f'poll_interval = "5": {NO_DURATION}'),
    ("reconciler", 'poll_interval = "-5s"', f'poll_interval = "-5s": {NO_DURATION}'),
    ("reconciler", 'poll_interval = ""', f'poll_interval = "": {NO_DURATION}'),
    ("reconciler", 'poll_interval = "0s"', 'poll_interval = "0s": must be at least 1s'),
    ("reconciler", 'resync_interval = "10 min"', f'resync_interval = "10 min": {NO_DURATION}'),
    ("guards", 'deletion_grace = "3651d"', 'deletion_grace = "3651d": is longer than 3650 days'),
    ("guards", "max_deletions_percent = 101", "max_deletions_percent = 101: must be at most 100"),
    ("guards", "max_deletions_percent = -0.5", "max_deletions_percent = -0.5: must be at least 0"),
    ("guards", "max_disables_percent = nan", "max_disables_percent = nan: must be a finite number"),
    ("guards", 'max_disables_percent = "5%"', 'max_disables_percent = "5%": must be a number'),
    ("guards", "min_deletions = 1.5", "min_deletions = 1.5: must be a whole number"),
    ("guards", "hot_loop_mutations = 0", "hot_loop_mutations = 0: must be at least 1"),
    (
        "guards",
        "max_deletion_percent = 1",
        "max_deletion_percent: unknown key; did you mean max_deletions_percent?",
    ),
    ("guards", "workers = 3", "workers: unknown key; it belongs below [reconciler]"),
    ("policy", 'quota = "off"', "quota = \"off\": must be 'enforce', 'report' or 'ignore'"),
    ("policy", 'create_missing_groups = "yes"', 'create_missing_groups = "yes": must be true or false'),
    ("nextcloud", 'timeout = "0s"', 'timeout = "0s": must be at least 100ms'),
    ("nextcloud", "requests_per_second = 0", "requests_per_second = 0: must be more than 0"),
    ("nextcloud", "verify_tls = 1", "verify_tls = 1: must be true or false"),
    ("nextcloud", "server = 3", "server = 3: must be a table: write its keys below [nextcloud.server]"),
    (
        "nextcloud",
        "server.3 = [1, 2]",
        "server.3: must be a table: write its keys below [nextcloud.server.3]",
    ),
    (
        "nextcloud",
        "server.cloud = {}",
        f'server.cloud = "cloud": {NO_SERVER}',
    ),
    (
        "nextcloud",
        "server.03 = {}",
        f'server.03 = "03": {NO_SERVER}',
    ),
    ("nextcloud", 'server.3.time_out = "3s"', "server.3.time_out: unknown key; did you mean timeout?"),
    ("nextcloud", "server.3.server.4 = {}", "server.3.server: unknown key; it belongs below [nextcloud]"),
    (
        "http",
        'listen = "9645"',
        f'listen = "9645": {NO_LISTEN}',
    ),
    ("http", 'listen = "127.0.0.1:70000"', 'listen = "127.0.0.1:70000": must have a port from 1 to 65535'),
    ("http", 'listen = "[1.2.3]:80"', 'listen = "[1.2.3]:80": holds no IPv6 address between the brackets'),
    (
        "http",
        'listen = "0.0.0.0:9645"',
        "token_file: needed, because http.listen is reachable from other machines",
    ),
    ("logging", 'format = "xml"', "format = \"xml\": must be 'text' or 'json'"),
    ("logging", 'level = "INFO"', "level = \"INFO\": must be 'debug', 'info', 'warning' or 'error'"),
    (
        "logging",
        f'level = "{"x" * 100}"',
        f"level = \"{'x' * 59}\\u2026\": must be 'debug', 'info', 'warning' or 'error'",
    ),
]


@pytest.mark.parametrize(("section", "line", "message"), BAD_VALUES)
def test_a_bad_value_is_told_with_its_path_and_cure(section: str, line: str, message: str) -> None:
    text = MINIMAL + ("" if section == "billmanager" else f"[{section}]\n") + line + "\n"
    assert errors_of(text) == [f"{section}.{message}"]


NO_URL = 'is not a database address; write it like "mysql+mysqldb://USER@HOST/DATABASE"'
NO_DRIVER = "names no database driver that is here; begin it with mysql+mysqldb://, postgresql+psycopg:// or sqlite:///"
NO_FILE = "names no file; write it like sqlite:////var/lib/bill-nextcloud/journal.db"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("billmgr", NO_URL),
        ("mysql+mysqldb://u@host:port/x", NO_URL),
        ("postgresql://u@h/d", NO_DRIVER),
        ("oracle://u@h/d", NO_DRIVER),
        ("mysql+mysqldb://u:hunter2@h/d", PASSWORD_CURE),
        ("mysql+mysqldb://u:@h/d", PASSWORD_CURE),
        ("postgresql+psycopg://u@h/d?password=hunter2", PASSWORD_CURE),
        ("mysql+mysqldb://u@h/d?passwd=hunter2", PASSWORD_CURE),
        ("mysql+mysqldb://u@h", "names no database; end it with /DATABASE"),
        ("sqlite://", NO_FILE),
        ("sqlite:///:memory:", NO_FILE),
    ],
)
def test_a_bad_database_url_is_refused_and_never_repeated(url: str, message: str) -> None:
    assert errors_of(f'[billmanager]\ndatabase_url = "{url}"\n') == [f"billmanager.database_url: {message}"]


def test_a_password_in_the_journal_url_names_its_own_cure() -> None:
    assert errors_of(MINIMAL + '[reconciler]\njournal_url = "postgresql+psycopg://u:hunter2@h/d"\n') == [
        (
            "reconciler.journal_url: must not hold a password; "
            'put it into a file and name that as "journal_password_file"'
        )
    ]


def test_the_database_must_be_named_somewhere() -> None:
    needed = "billmanager: database_url or db_conf is needed to find BILLmanager's database"
    assert errors_of("") == [needed]
    assert errors_of("[billmanager]\n") == [needed]


def test_all_faults_are_listed_at_once_also_those_between_keys() -> None:
    assert errors_of(
        "colour = 1\nhttp = 3\n"
        "[billmanager]\nmodule = 5\ndatabase_password = 'hunter2'\n"
        "[loging]\nlevel = 'hunter2'\n"
        "[nextcloud.server.3]\npage_size = 0\n"
        "[reconciler]\nmode = 'off'\nworkers = 0\n"
    ) == [
        "billmanager.module = 5: must be a text",
        "billmanager.database_password: unknown key; did you mean database_password_file?",
        "reconciler.mode = \"off\": must be 'enforce' or 'observe'",
        "reconciler.workers = 0: must be at least 1",
        "nextcloud.server.3.page_size = 0: must be at least 1",
        "http = 3: must be a table: write its keys below [http]",
        "colour: unknown key",
        "loging: unknown key; did you mean logging?",
        "billmanager: database_url or db_conf is needed to find BILLmanager's database",
    ]


def test_a_key_of_odd_characters_stays_on_its_line() -> None:
    assert errors_of(MINIMAL + '["x\\ny"]\n') == ['"x\\ny": unknown key']
    assert errors_of(MINIMAL + "[" + "k" * 1_000_000 + "]\n") == [f'"{"k" * 59}\\u2026": unknown key']


# --- the file itself ------------------------------------------------------------------------------


def file_errors(path: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load_config(path)
    return caught.value.errors


def test_a_missing_file_is_named_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert file_errors(path) == [
        f"{path}: no such file; name one with --config or $RECONCILER_CONFIG (see config.example.toml)"
    ]


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert file_errors(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_a_name_with_a_null_character_is_no_file() -> None:
    assert file_errors(Path("a\0b")) == ['"a\\u0000b": cannot be read: not a file\'s name']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"[billmanager]\nmodule = \n",
            "not valid TOML: Invalid value (at line 2, column 10)",
        ),
        (b"[billmanager]\nmodule = \xff\n", "not UTF-8 text (line 2)"),
        (b"a = " + b"9" * 5000, "not valid TOML: a value is too long or too deep"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB; that is no configuration"),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert file_errors(path) == [f"{path}: {message}"]


def test_brackets_without_end_are_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("a = " + "[" * 100_000)
    (line,) = file_errors(path)
    assert line.startswith(f"{path}: not valid TOML: ")


# --- whatever else --------------------------------------------------------------------------------

KNOWN_KEYS = sorted(
    {key for name in Config.model_fields for key in type(getattr(Config(), name)).model_fields}
    | Config.model_fields.keys()
    | {"3"}
)
KEYS = st.sampled_from(KNOWN_KEYS) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.sampled_from(["5s", "enforce", "sqlite:///x", "credential:x", "127.0.0.1:1", "[::1]:1"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
TABLES = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=5) | VALUES, max_size=5)


@given(TABLES)
@example({"http": {"listen": "[1:2"}})
def test_any_table_is_a_configuration_or_a_list_of_single_lines(data: dict[str, Any]) -> None:
    try:
        config = parse_config(data, folder=Path("/etc/x"))
    except ConfigInvalid as error:
        errors = error.errors
    else:
        assert isinstance(config.for_server(3), ServerSettings)
        return
    assert errors
    for line in errors:
        assert len(line.splitlines()) == 1
        assert len(line) < 1000


@given(st.text(alphabet="dhms0123456789. -", max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        config = config_of(MINIMAL + f'[guards]\ndeletion_grace = "{text}"\n')
    except ConfigInvalid as error:
        errors = error.errors
    else:
        assert timedelta(0) <= config.guards.deletion_grace <= timedelta(days=3650)
        return
    assert [line.partition(" = ")[0] for line in errors] == ["guards.deletion_grace"]


# --- secrets and other files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"hunter2", "hunter2"), (b"hunter2\n", "hunter2"), (b"hunter2\r\n", "hunter2"), (b" x \n\n", " x \n")],
)
def test_a_secret_loses_one_line_end(tmp_path: Path, content: bytes, secret: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert read_secret(path) == secret


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\xff", "not UTF-8 text"),
        (b"x" * (1024 * 1024 + 1), "larger than 1 MiB; that is no secret"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_secret_that_is_none_is_told_without_it(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigInvalid) as caught:
        read_secret(path)
    assert str(caught.value) == f"{path}: {message}"
    assert caught.value.__suppress_context__ or not isinstance(caught.value.__context__, UnicodeError)


def write_file(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def folder_with_files(tmp_path: Path) -> Path:
    """A folder with a config.toml and everything that it names, all in order."""
    for name in ("password", "rsa.pem", "token", "journal-password", "ca.pem", "own-ca.pem"):
        write_file(tmp_path / name, "content\n")
    write_file(tmp_path / "journal.key", base64.urlsafe_b64encode(bytes(range(220, 252))).decode() + "\n")
    write_file(tmp_path / "mgrctl", "#!/bin/sh\n", 0o755)
    (tmp_path / "config.toml").write_text(
        MINIMAL
        + 'database_password_file = "password"\nprivate_key_file = "rsa.pem"\nmgrctl = "mgrctl"\n'
        + '[reconciler]\njournal_key_file = "journal.key"\njournal_password_file = "journal-password"\n'
        + '[http]\ntoken_file = "token"\n'
        + '[nextcloud]\nca_file = "ca.pem"\n[nextcloud.server.3]\nca_file = "own-ca.pem"\n'
    )
    return tmp_path


def test_files_in_order_have_no_faults(tmp_path: Path) -> None:
    folder = folder_with_files(tmp_path)
    assert check_files(load_config(folder / "config.toml")) == []
    (folder / "journal.key").unlink()
    (folder / "password").chmod(0o640)
    assert check_files(load_config(folder / "config.toml")) == []


def test_every_missing_file_is_listed_with_its_key(tmp_path: Path) -> None:
    folder = folder_with_files(tmp_path)
    for path in folder.iterdir():
        if path.name != "config.toml":
            path.unlink()
    missing = "cannot be read: No such file or directory"
    assert check_files(load_config(folder / "config.toml")) == [
        f"billmanager.database_password_file: {folder}/password: {missing}",
        f"billmanager.private_key_file: {folder}/rsa.pem: {missing}",
        f"reconciler.journal_password_file: {folder}/journal-password: {missing}",
        f"http.token_file: {folder}/token: {missing}",
        (
            f"billmanager.mgrctl: {folder}/mgrctl is not there or cannot be run; "
            'give its path, or writer = "sql"'
        ),
        f"nextcloud.ca_file: {folder}/ca.pem is not there or cannot be read",
        f"nextcloud.server.3.ca_file: {folder}/own-ca.pem is not there or cannot be read",
    ]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601])
def test_a_secret_that_is_open_to_everybody_is_refused(tmp_path: Path, mode: int) -> None:
    folder = folder_with_files(tmp_path)
    (folder / "token").chmod(mode)
    (folder / "journal.key").chmod(mode)
    assert check_files(load_config(folder / "config.toml")) == [
        (
            f"http.token_file: {folder}/token is open to everybody (mode {mode:04o}); "
            f"run: chmod o-rwx {folder}/token"
        ),
        (
            f"reconciler.journal_key_file: {folder}/journal.key is open to everybody (mode {mode:04o}); "
            f"run: chmod o-rwx {folder}/journal.key"
        ),
    ]


@pytest.mark.parametrize("content", ["hunter2", "aGVsbG8=", "ä" * 44])
def test_a_journal_key_that_is_none_is_told_without_it(tmp_path: Path, content: str) -> None:
    folder = folder_with_files(tmp_path)
    write_file(folder / "journal.key", content)
    (line,) = check_files(load_config(folder / "config.toml"))
    assert line.startswith(
        f"reconciler.journal_key_file: {folder}/journal.key holds no key (32 bytes in base64); "
    )
    assert content not in line


def test_no_mgrctl_is_needed_to_write_by_sql(tmp_path: Path) -> None:
    folder = folder_with_files(tmp_path)
    (folder / "mgrctl").unlink()
    file = folder / "config.toml"
    file.write_text(file.read_text().replace("[billmanager]", '[billmanager]\nwriter = "sql"'))
    assert check_files(load_config(file)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_secret_of_somebody_else_cannot_be_read(tmp_path: Path) -> None:
    folder = folder_with_files(tmp_path)
    (folder / "token").chmod(0o000)
    assert check_files(load_config(folder / "config.toml")) == [
        f"http.token_file: {folder}/token: cannot be read: Permission denied"
    ]
