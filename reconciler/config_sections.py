"""The sections of config.toml: every key, its default and its limits.

Loaded and checked by `reconciler.config`; read by the composition root, which hands each layer what it needs.
The models are frozen. Keys and attributes have the same names; a length of time is a timedelta (``"10m"`` in
the file). A new key needs a line in config.example.toml, which a test holds against these models.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from reconciler.config_values import (
    Count,
    DatabaseUrl,
    Duration,
    FilePath,
    Interval,
    ListenAddress,
    ModuleName,
    OptionalSecretFile,
    Percent,
    PositiveCount,
    QuotaSources,
    SecretFile,
    ServerId,
    Timeout,
    is_loopback_host,
    split_listen,
)
from states.policy import Mode, Policy

PolicyMode = Annotated[Mode, Field(strict=False)]


class Section(BaseModel):
    """What all sections share: unknown keys are errors, nothing is guessed from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BillmanagerSection(Section):
    """``[billmanager]``: its database, its key and how it is told things."""

    database_url: DatabaseUrl | None = None
    db_conf: FilePath | None = None
    database_password_file: SecretFile | None = None
    private_key_file: OptionalSecretFile = Path("/usr/local/mgr5/etc/billmgr.pem")
    module: ModuleName = "pmnextcloud"
    writer: Literal["mgrctl", "sql", "none"] = "mgrctl"
    mgrctl: FilePath = Path("/usr/local/mgr5/sbin/mgrctl")
    quota_sources: QuotaSources = (
        "addon:disk",
        "addon:disc",
        "itemparam:quota_gb",
        "pricelistparam:quota_gb",
    )
    manual_after_tries: Annotated[int, Field(ge=1, le=1000)] = 3
    card_language: Literal["ru", "en"] = "ru"


class ReconcilerSection(Section):
    """``[reconciler]``: mode, journal and pace."""

    mode: Literal["enforce", "observe"] = "enforce"
    journal_url: DatabaseUrl = "sqlite:////var/lib/bill-nextcloud/journal.db"
    journal_password_file: SecretFile | None = None
    journal_key_file: SecretFile = Path("/etc/bill-nextcloud/journal.key")
    poll_interval: Interval = timedelta(seconds=5)
    resync_interval: Interval = timedelta(minutes=10)
    usage_interval: Interval = timedelta(hours=1)
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    history_retention: Interval = timedelta(days=730)


class GuardsSection(Section):
    """``[guards]``: how much may happen before a person is asked.

    A limit with ``max_…_percent`` and ``min_…`` is max(min, percent of the server's services) in its window
    (24 hours for deletions, one hour for the others).
    """

    deletion_grace: Duration = timedelta(hours=72)
    deletion_confirm_interval: Duration = timedelta(minutes=5)
    max_deletions_percent: Percent = 1.0
    min_deletions: Count = 5
    max_disables_percent: Percent = 5.0
    min_disables: Count = 20
    max_recreations_percent: Percent = 2.0
    min_recreations: Count = 5
    max_quota_decreases_percent: Percent = 10.0
    min_quota_decreases: Count = 20
    max_desired_shrink_percent: Percent = 20.0
    hot_loop_mutations: PositiveCount = 6
    breaker_failures: PositiveCount = 5
    breaker_probe_interval: Interval = timedelta(seconds=60)
    credentials_probe_interval: Interval = timedelta(minutes=10)
    approval_ttl: Interval = timedelta(hours=1)


class PolicySection(Section):
    """``[policy]``: what is done about each field that differs."""

    existence: PolicyMode = Mode.ENFORCE
    quota: PolicyMode = Mode.ENFORCE
    enabled: PolicyMode = Mode.ENFORCE
    group: PolicyMode = Mode.ENFORCE
    email: PolicyMode = Mode.ENFORCE
    create_missing_groups: bool = False

    def as_policy(self) -> Policy:
        """The same in the words of ``states``."""
        return Policy(
            existence=self.existence,
            quota=self.quota,
            enabled=self.enabled,
            group=self.group,
            email=self.email,
            create_missing_groups=self.create_missing_groups,
        )


class ServerSettings(Section):
    """How one Nextcloud or ownCloud server is talked to.

    ``model_fields_set`` names what the operator has written (for all servers or for this one). That tells it
    from a default where BILLmanager has a word on the same thing (its ``timeout`` and ``verify_ssl``).
    """

    timeout: Timeout = timedelta(seconds=30)
    connect_timeout: Timeout = timedelta(seconds=10)
    total_timeout: Timeout = timedelta(seconds=60)
    delete_timeout: Timeout = timedelta(minutes=10)
    verify_tls: bool = True
    ca_file: FilePath | None = None
    page_size: Annotated[int, Field(ge=1, le=5000)] = 200
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    requests_per_second: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 20.0
    max_response_mib: Annotated[int, Field(ge=1, le=1024)] = 8

    @property
    def max_response_bytes(self) -> int:
        """The limit of one answer in bytes."""
        return self.max_response_mib * 1024 * 1024


class NextcloudSection(ServerSettings):
    """``[nextcloud]``: defaults for every server, and ``[nextcloud.server.N]`` for single ones."""

    server: dict[ServerId, ServerSettings] = Field(default_factory=dict)
    allow_http: bool = False


class HttpSection(Section):
    """``[http]``: metrics, health and the console."""

    listen: ListenAddress = "127.0.0.1:9645"
    token_file: SecretFile | None = None

    @property
    def host(self) -> str:
        """Host of ``listen``, without brackets."""
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        """Port of ``listen``."""
        return split_listen(self.listen)[1]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback_host(self.host)


class LoggingSection(Section):
    """``[logging]``: how log lines look and which are written."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """A whole config.toml, checked."""

    billmanager: BillmanagerSection = BillmanagerSection()
    reconciler: ReconcilerSection = ReconcilerSection()
    guards: GuardsSection = GuardsSection()
    policy: PolicySection = PolicySection()
    nextcloud: NextcloudSection = NextcloudSection()
    http: HttpSection = HttpSection()
    logging: LoggingSection = LoggingSection()
    _of_servers: dict[int, ServerSettings] = PrivateAttr(default_factory=dict)

    def for_server(self, server_id: int) -> ServerSettings:
        """The settings of processingmodule ``server_id``: its own, else those of all, else the defaults."""
        if server_id not in self._of_servers:  # made once: a busy dispatcher asks for each server, each time
            self._of_servers[server_id] = self._make_settings(server_id)
        return self._of_servers[server_id]

    def _make_settings(self, server_id: int) -> ServerSettings:
        written: dict[str, object] = {}
        for source in (self.nextcloud, self.nextcloud.server.get(server_id)):
            if source is not None:
                names = source.model_fields_set & ServerSettings.model_fields.keys()
                written.update({name: getattr(source, name) for name in names})
        return ServerSettings().model_copy(update=written)
