"""Services as billing wants them: rows of BILLmanager understood as `states.model.DesiredService`.

Called by `bm_db.billing`. Nothing in a row can end a listing: what cannot be understood becomes a fault
of that service, one line that names it and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import Connection

from bm_db.crypt import Cipher
from bm_db.errors import ValueUndecryptable
from bm_db.operations import IN_PROGRESS, OPERATION_WISHES
from bm_db.schema import Schema
from bm_db.service_rows import (
    CARD_STATE,
    URL,
    USERNAME,
    ServiceRow,
    complete_rows,
    list_chunks,
    read_ids,
    read_items,
    select_services_of,
)
from bm_db.sold_quota import QuotaSource, compute_sold_quota
from bm_db.tariffs import GROUP_PARAMETER, Plan, Tariffs, read_group, read_tariffs
from bm_db.values import (
    UnreadableValue,
    get_first,
    get_single,
    read_filled_text,
    read_integer,
    show,
)
from states.model import DesiredService, Fault, FaultField, SoldQuota, Wish

_WISHES: Final = {1: Wish.NONE, 2: Wish.ENABLED, 3: Wish.DISABLED, 4: Wish.ABSENT, 5: Wish.AS_IS}
# What Nextcloud (without the plus) and ownCloud accept in an id; whether this server does, it says itself.
_USERNAME: Final = re.compile(r"[a-zA-Z0-9 _.@\-'+]{1,64}", re.ASCII)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_LONGEST_EMAIL: Final = 254
_NAMES_WITHOUT_QUOTA: Final = frozenset({USERNAME, URL, CARD_STATE})


class ServiceReader:
    """Reads services over one connection: plans once, then services a chunk at a time."""

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        *,
        cipher: Cipher | None,
        sources: Sequence[QuotaSource],
        is_decrypting: bool = True,
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._cipher = cipher
        self._sources = sources
        self._is_decrypting = is_decrypting
        self._item_parameters = {USERNAME, URL, *(each.name for each in sources if each.kind == "itemparam")}
        self._plan_parameters = {
            GROUP_PARAMETER,
            *(each.name for each in sources if each.kind == "pricelistparam"),
        }

    def list_services(
        self, module: str, chunk_size: int, server_id: int | None = None
    ) -> Iterator[DesiredService]:
        """Every service of the module's servers, or of that one of them, by id."""
        services = select_services_of(self._schema, module, server_id)
        found = read_ids(self._connection, self._schema, services)
        tariffs = read_tariffs(self._connection, self._schema, found.plan_ids, self._plan_parameters)
        for rows in list_chunks(self._connection, self._schema, found.ids, self._item_parameters, chunk_size):
            for row in rows:
                yield self._build(row, tariffs)

    def get_service(self, item_id: int) -> DesiredService | None:
        """One service of whatever server; None when there is no such row."""
        found = read_items(self._connection, self._schema, (item_id,))
        if not found:
            return None
        plan_ids = [row.pricelist for row in found if row.pricelist is not None]
        tariffs = read_tariffs(self._connection, self._schema, plan_ids, self._plan_parameters)
        names = {*self._item_parameters, CARD_STATE}
        return self._build(complete_rows(self._connection, self._schema, found, names)[0], tariffs)

    def _build(self, row: ServiceRow, tariffs: Tariffs) -> DesiredService:
        return _Understanding(row, tariffs, self._cipher, self._sources, self._is_decrypting).build()


class _Understanding:
    """One service's rows on their way to a `DesiredService`, collecting faults."""

    __slots__ = ("_cipher", "_faults", "_is_decrypting", "_row", "_sources", "_tariffs")

    def __init__(
        self,
        row: ServiceRow,
        tariffs: Tariffs,
        cipher: Cipher | None,
        sources: Sequence[QuotaSource],
        is_decrypting: bool,
    ) -> None:
        self._row = row
        self._tariffs = tariffs
        self._cipher = cipher
        self._sources = sources
        self._is_decrypting = is_decrypting
        self._faults: list[Fault] = []

    def build(self) -> DesiredService:
        status, operation, wish = self._read_wish()
        username = self._read_username()
        row = self._row
        plan = None if row.pricelist is None else self._tariffs.get(row.pricelist)
        quota = self._read_quota(plan)
        group = self._read_group(plan)
        email = self._read_email()
        password = self._read_password()
        return DesiredService(
            item_id=row.id,
            server_id=row.processingmodule,
            wish=wish,
            username=username,
            quota=quota,
            group=group,
            email=email,
            status=status,
            operation=operation,
            is_username_recorded=USERNAME in row.parameters,
            is_url_recorded=URL in row.parameters,
            is_password_recorded=bool(row.passwords),
            password=password,
            card_state=get_first(row.parameters, CARD_STATE),
            faults=tuple(self._faults),
        )

    def _fault(self, field: FaultField, message: str) -> None:
        self._faults.append(Fault(field, f"service {self._row.id}: {message}"))

    def _read_wish(self) -> tuple[int | None, str | None, Wish]:
        raw = self._row.status
        try:
            status = read_integer(raw)
        except UnreadableValue:
            status = None
        if status not in _WISHES:
            self._fault(
                FaultField.STATUS, f"status {show(raw)} is not one of 1 to 5: correct it in BILLmanager"
            )
            return None, None, Wish.AS_IS
        if status != IN_PROGRESS:
            return status, None, _WISHES[status]
        names = [
            name.lower().replace("_", "")
            for each in self._row.operations
            if (name := read_filled_text(each)) is not None
        ]
        wishes = {OPERATION_WISHES.get(name, Wish.AS_IS) for name in names}
        if len(wishes) != 1:
            return status, None, Wish.AS_IS
        return status, names[0], wishes.pop()

    def _read_username(self) -> str:
        cure = f"correct the service's parameter {USERNAME}"
        try:
            recorded = get_single(self._row.parameters, USERNAME)
        except UnreadableValue as exc:
            self._fault(FaultField.USERNAME, f"{exc}: {cure}")
            return ""
        if recorded is None:
            return f"user_{self._row.id}"
        is_plain = _USERNAME.fullmatch(recorded) is not None and recorded == recorded.strip()
        # As a path segment "." and ".." would address something else than an account.
        if not is_plain or recorded in {".", ".."}:
            self._fault(FaultField.USERNAME, f"user name {show(recorded)} cannot be an account's: {cure}")
            return ""
        return recorded

    def _read_quota(self, plan: Plan | None) -> SoldQuota | None:
        row = self._row
        if plan is None:
            missing = show(row.pricelist)
            self._fault(FaultField.QUOTA, f"its tariff {missing} is not in BILLmanager: give it a tariff")
            return None
        is_usual = not row.addons and row.parameters.keys() <= _NAMES_WITHOUT_QUOTA
        # Most services of a plan have bought nothing more: what the plan sells is computed once.
        known = self._tariffs.usual_quotas if is_usual else {}
        key = plan.id, row.period
        if key not in known:
            known[key] = self._compute_quota(plan)
        quota = known[key]
        if isinstance(quota, UnreadableValue):
            self._fault(FaultField.QUOTA, str(quota))
            return None
        return quota

    def _compute_quota(self, plan: Plan) -> SoldQuota | UnreadableValue:
        row = self._row
        try:
            return compute_sold_quota(
                plan, row.addons, row.parameters, row.period, self._tariffs.measures, self._sources
            )
        except UnreadableValue as exc:
            return exc

    def _read_group(self, plan: Plan | None) -> str | None:
        if plan is None:
            return None
        try:
            return read_group(plan.parameters)
        except UnreadableValue as exc:
            self._fault(FaultField.GROUP, f"{plan}: {exc}")
            return None

    def _read_email(self) -> str | None:
        if not self._row.emails:
            self._fault(
                FaultField.EMAIL, "its client has no user with an e-mail address: enter one in BILLmanager"
            )
            return None
        email = self._row.emails[0]
        if not (_EMAIL.fullmatch(email) and email.isprintable() and len(email) <= _LONGEST_EMAIL):
            self._fault(
                FaultField.EMAIL, f"{show(email)} is not an e-mail address: correct it at the client's user"
            )
            return None
        return email

    def _read_password(self) -> str | None:
        """The password on record in the clear; None without one, when unreadable, or when not asked for."""
        values = self._row.passwords
        if not values or not self._is_decrypting:
            return None
        cure = "check private_key_file, or set a new password"
        if self._cipher is None:
            self._fault(
                FaultField.PASSWORD, f"its password is encrypted and no private key is configured: {cure}"
            )
            return None
        try:
            # Encrypting is random, so rows that differ may well mean the same password: the first one counts.
            return self._cipher.decrypt(values[0])
        except ValueUndecryptable as exc:
            self._fault(FaultField.PASSWORD, f"its password cannot be decrypted ({exc}): {cure}")
            return None
