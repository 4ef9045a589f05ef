"""ownCloud 10's answers about users and groups.

Each method answers one operation as the real server did in the recorded exchanges
(tests/recordings/owncloud-*.jsonl): create ignores quota, e-mail and display name, a user hears 401
where somebody else's account is concerned, and searching needs two characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from reconciler.sandbox.emulator_accounts import Question, is_address
from reconciler.sandbox.emulator_envelope import OcsFailure, OcsReply, as_php_key
from reconciler.sandbox.emulator_groups import GroupAnswers
from reconciler.sandbox.emulator_quota import store_quota
from reconciler.sandbox.emulator_state import MISSING, EmulatedAccount

NO_ROUTE: Final = (
    "Invalid query, please check the syntax. API specifications are here: "
    "http://www.freedesktop.org/wiki/Specifications/open-collaboration-services. DEBUG OUTPUT:\n"
)
_ALLOWED: Final = re.compile(r"[a-zA-Z0-9 _.@'+-]*\Z")
_RESERVED: Final = frozenset({"avatars", "meta", "files_external", "files_encryption"})
_EDITABLE: Final = frozenset({"display", "displayname", "email", "quota", "password"})


class OwnCloudProduct(GroupAnswers):
    """All of ownCloud's operations."""

    no_subadmin = (997, "Unauthorised")
    no_admin = (997, "Unauthorised")
    group_exists = (102, None)
    group_missing = (998, "The requested group could not be found")
    foreign_group = (997, None)

    def list_answers(self) -> dict[str, Callable[[Question], OcsReply]]:
        """The answering method of each operation."""
        return super().list_answers() | {
            "capabilities": self.answer_capabilities,
            "user": self.answer_current_user,
            "list": self.answer_list,
            "create": self.answer_create,
            "get": self.answer_get,
            "edit": self.answer_edit,
            "enable": self.answer_enable,
            "disable": self.answer_enable,
            "delete": self.answer_delete,
            "user_groups": self.answer_user_groups,
            "subadmins": self.answer_subadmins,
        }

    def describe_status(self) -> dict[str, object]:
        """The product's own fields of status.php."""
        version = self.settings.version
        return {
            "version": {"10.7.0": "10.7.0.4"}.get(version, f"{version}.1"),
            "versionstring": version,
            "edition": "Community",
            "productname": "ownCloud",
        }

    def answer_unknown(self, question: Question) -> OcsReply:  # noqa: ARG002 - as the other product
        """No such route."""
        return OcsReply(999, NO_ROUTE)

    def answer_capabilities(self, question: Question) -> OcsReply:
        """For users only."""
        if question.login.account is None:
            return OcsReply(997, "Unauthorised", has_totals=True)
        major, minor, micro = (int(part) for part in (*self.settings.version.split("."), "0", "0")[:3])
        version = {
            "major": major,
            "minor": minor,
            "micro": micro,
            "string": self.settings.version,
            "edition": "Community",
        }
        status = {"installed": True, "maintenance": False, "needsDbUpgrade": False, **self.describe_status()}
        core = {"pollinterval": 60, "webdav-root": "remote.php/webdav", "status": status}
        data = {"version": version, "capabilities": {"core": core}}
        return OcsReply(message="OK", data=data, has_totals=True)

    def answer_current_user(self, question: Question) -> OcsReply:
        """Whoever asks."""
        caller = question.caller
        return OcsReply(data={"id": caller.userid, "display-name": caller.shown_name, "email": caller.email})

    def answer_list(self, question: Question) -> OcsReply:
        """Ids of one page, by id; limit 0 means all, and one letter finds nobody."""
        self.require_subadmin(question)
        if len(question.request.text("search")) == 1:
            return OcsReply(data={"users": []})
        accounts = self.select_page(question, by_name=False, limit=question.request.number("limit") or None)
        return OcsReply(data={"users": [as_php_key(account.userid) for account in accounts]})

    def answer_create(self, question: Question) -> OcsReply:
        """Create an account of that name and password; nothing else that was sent is looked at."""
        request = question.request
        userid, password = request.text("userid"), request.text("password")
        with self.state.lock:
            self.require_subadmin(question)
            if self.state.find(userid) is not None:
                raise OcsFailure(102, "User already exists")
            groups = request.texts("groups")
            self._check_groups(question, groups)
            self._check_userid(userid)
            if not password:
                raise OcsFailure(101, "A valid password must be provided")
            fault = self.find_password_fault(password)
            if fault is not None:
                raise OcsFailure(101, fault)
        self.wait(self.settings.create_seconds)
        with self.state.lock:
            if self.state.find(userid) is not None:
                raise OcsFailure(102, "User already exists")
            account = self.state.insert(EmulatedAccount(userid, password))
            if not question.partial:
                account.groups = set(groups)
            question.call.had_effect = True
        return OcsReply()

    def _check_groups(self, question: Question, groups: list[str]) -> None:
        for groupid in groups:
            if groupid not in self.state.groups:
                raise OcsFailure(104, f"group {groupid} does not exist")
            if not question.is_admin and groupid not in question.caller.subadmin_of:
                raise OcsFailure(105, f"insufficient privileges for group {groupid}")
        if not groups and not question.is_admin:
            raise OcsFailure(106, "no group specified (required for subadmins)")

    def _check_userid(self, userid: str) -> None:
        if _ALLOWED.match(userid) is None:
            characters = '"a-z", "A-Z", "0-9", and "+_.@-\'"'
            raise OcsFailure(101, f"Only the following characters are allowed in a username: {characters}")
        if not userid.strip():
            raise OcsFailure(101, "A valid username must be provided")
        if userid != userid.strip():
            raise OcsFailure(101, "Username contains whitespace at the beginning or at the end")
        if userid in {".", ".."}:
            raise OcsFailure(101, "Username must not consist of dots only")
        if len(userid) < 3:
            raise OcsFailure(101, "The username must be at least 3 characters long")
        if len(userid) > 64:
            raise OcsFailure(101, "The username can not be longer than 64 characters")
        if userid.lower() in _RESERVED or userid.lower() == f"appdata_{self.state.instance_id}":
            raise OcsFailure(101, f"The special username {userid} is not allowed")

    def answer_get(self, question: Question) -> OcsReply:
        """One account."""
        account = self.state.find(question.request.target or "")
        if account is None or account.is_remnant:
            raise OcsFailure(998, "The requested user could not be found")
        if not (question.is_self(account) or question.may_see(account)):
            raise OcsFailure(997)
        return OcsReply(data=self.describe(account))

    def answer_edit(self, question: Question) -> OcsReply:
        """Change one field; whatever is not known, key or account, is answered with 401."""
        account = self.state.find(question.request.target or "")
        key, value = question.request.text("key"), question.request.text("value")
        if account is None or key not in _EDITABLE:
            raise OcsFailure(997)
        is_own_field = question.is_self(account) and key != "quota"
        if not (is_own_field or question.may_see(account)):
            raise OcsFailure(997)
        before = (account.quota_definition, account.email, account.display_name, account.password)
        self._edit(account, key, value)
        after = (account.quota_definition, account.email, account.display_name, account.password)
        question.call.had_effect = before != after
        return OcsReply()

    def _edit(self, account: EmulatedAccount, key: str, value: str) -> None:
        if key == "quota":
            definition = store_quota(value)
            if definition is None:
                raise OcsFailure(103, f"Invalid quota value {value}")
            account.quota_definition = definition
        elif key == "email":
            if value and not is_address(value):
                raise OcsFailure(102)
            account.email = value
        elif key == "password":
            fault = self.find_password_fault(value) if value else "Password cannot be empty"
            if fault is not None:
                raise OcsFailure(403, fault)
            account.password = value
        elif value:
            account.display_name = value

    def answer_enable(self, question: Question) -> OcsReply:
        """Enable or disable, as often as one likes, but nobody oneself."""
        account = self._find_for_change(question)
        is_enabled = question.call.operation == "enable"
        question.call.had_effect = account.is_enabled != is_enabled
        account.is_enabled = is_enabled
        return OcsReply()

    def answer_delete(self, question: Question) -> OcsReply:
        """Delete an account at once."""
        self.remove(self._find_for_change(question))
        question.call.had_effect = True
        return OcsReply()

    def _find_for_change(self, question: Question) -> EmulatedAccount:
        self.require_subadmin(question)
        account = self.state.find(question.request.target or "")
        if account is None or question.is_self(account):
            raise OcsFailure(101)
        if not question.may_see(account):
            raise OcsFailure(997)
        return account

    def answer_user_groups(self, question: Question) -> OcsReply:
        """Groups of an account; a sub-administrator sees only its own ones."""
        account = self.state.find(question.request.target or "")
        if account is None:
            raise OcsFailure(998)
        if question.is_admin or question.is_self(account):
            return OcsReply(data={"groups": sorted(account.groups)})
        if not question.may_see(account):
            raise OcsFailure(997)
        return OcsReply(data={"groups": sorted(account.groups & question.caller.subadmin_of)})

    def answer_subadmins(self, question: Question) -> OcsReply:
        """Groups that an account administers; none is a failure here."""
        self.require_admin(question)
        account = self.state.find(question.request.target or "")
        if account is None:
            raise OcsFailure(101, "User does not exist")
        if not account.subadmin_of:
            raise OcsFailure(102, "Unknown error occurred")
        return OcsReply(data=sorted(account.subadmin_of))

    def describe(self, account: EmulatedAccount) -> dict[str, object]:
        """One account as GET users/{id} shows it."""
        definition = account.quota_definition
        quota: dict[str, object] = {"definition": definition}
        if account.has_logged_in:
            effective = self.settings.default_quota if definition == "default" else definition
            quota = self.describe_storage(account, effective) | quota
        fields: dict[str, object] = {
            "enabled": "true" if account.is_enabled else "false",
            "quota": quota,
            "email": account.email,
            "displayname": account.shown_name,
            "home": f"{self.settings.data_folder}/{account.userid}",
            "two_factor_auth_enabled": "false",
        }
        fields |= account.field_overrides
        return {field: value for field, value in fields.items() if value is not MISSING}
