"""Nextcloud's creating and editing of accounts: the order of its steps, and what a failure leaves behind.

Create makes the row first, then the groups, the display name, the quota and the e-mail; a step that
fails leaves the account without the rest. Source: tests/recordings/nextcloud-*.jsonl and, for the
newer codes, Nextcloud's source. `NextcloudProduct` is what `CloudEmulator` uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from reconciler.sandbox.emulator_accounts import Question, is_address
from reconciler.sandbox.emulator_envelope import OcsFailure, OcsReply
from reconciler.sandbox.emulator_nextcloud import NextcloudAnswers
from reconciler.sandbox.emulator_quota import read_size, store_quota
from reconciler.sandbox.emulator_state import EmulatedAccount

_ALLOWED: Final = re.compile(r"[a-zA-Z0-9 _.@'-]*\Z")
_RESERVED: Final = frozenset(
    {
        "files_external",
        "__groupfolders",
        ".htaccess",
        ".ncdata",
        ".ocdata",
        "owncloud.log",
        "nextcloud.log",
        "updater.log",
        "audit.log",
    }
)
_SELF_EDITABLE: Final = frozenset({"display", "displayname", "email", "password", "language", "locale"})
_EDITABLE: Final = _SELF_EDITABLE | {"quota"}


class NextcloudProduct(NextcloudAnswers):
    """All of Nextcloud's operations."""

    def list_answers(self) -> dict[str, Callable[[Question], OcsReply]]:
        """The answering method of each operation."""
        return super().list_answers() | {"create": self.answer_create, "edit": self.answer_edit}

    def answer_create(self, question: Question) -> OcsReply:
        """Create an account, step by step; two who try at once are told apart by the row."""
        request = question.request
        userid, password = request.text("userid"), request.text("password")
        with self.state.lock:
            self.require_subadmin(question)
            self._check_create(question, userid, password)
        self.wait(self.settings.create_seconds)
        with self.state.lock:
            if self.state.find(userid) is not None:
                raise OcsFailure(101, "The username is already being used")
            self._check_userid(userid)
            fault = self.find_password_fault(password) if password else None
            if fault is not None:
                raise OcsFailure(107, fault)
            account = self.state.insert(EmulatedAccount(userid, password))
            question.call.had_effect = True
            if not question.partial:
                self._complete(question, account)
        return OcsReply(data={"id": userid})

    def _check_create(self, question: Question, userid: str, password: str) -> None:
        """What is looked at before the row is made."""
        request = question.request
        if "userid" not in request.parameters:
            raise OcsFailure(500, "Internal Server Error\n", status=500)
        if self.state.find(userid) is not None:
            raise OcsFailure(102, "User already exists")
        groups = request.texts("groups")
        for groupid in groups:
            if groupid not in self.state.groups:
                raise OcsFailure(104, f"group {groupid} does not exist")
            if not question.is_admin and groupid not in question.caller.subadmin_of:
                raise OcsFailure(105, f"insufficient privileges for group {groupid}")
        if not groups and not question.is_admin:
            raise OcsFailure(106, "no group specified (required for subadmins)")
        if not password and not request.text("email"):
            raise OcsFailure(108, "To send a password link to the user an email address is required.")

    def _check_userid(self, userid: str) -> None:
        if _ALLOWED.match(userid) is None:
            characters = '"a-z", "A-Z", "0-9", and "_.@-\'"'
            raise OcsFailure(101, f"Only the following characters are allowed in a username: {characters}")
        if not userid.strip():
            raise OcsFailure(101, "A valid username must be provided")
        if userid != userid.strip():
            raise OcsFailure(101, "Username contains whitespace at the beginning or at the end")
        if userid in {".", ".."}:
            raise OcsFailure(101, "Username must not consist of dots only")
        taken = {folder.lower() for folder in self.state.leftover_folders} | _RESERVED
        if userid.lower() in taken or userid.lower() == f"appdata_{self.state.instance_id}":
            raise OcsFailure(101, "Username is invalid because files already exist for this user")
        if len(userid) > 64:
            raise OcsFailure(101, "Bad request")

    def _complete(self, question: Question, account: EmulatedAccount) -> None:
        """The steps after the row, in Nextcloud's order."""
        request = question.request
        account.groups = set(request.texts("groups"))
        name, quota, email = request.text("displayName"), request.text("quota"), request.text("email")
        if name:
            try:
                self._edit_name(account, name)
            except OcsFailure:
                self.remove(account)
                raise
        if quota:
            self._edit_quota(account, quota)
        if email:
            account.email = email.lower()
            if self.settings.major < 27 and not is_address(email):
                raise OcsFailure(500, "Internal Server Error\n", status=500)

    def answer_edit(self, question: Question) -> OcsReply:
        """Change one field of an account; a key that is not known is refused."""
        account = self.find_or_998(question)
        is_self = question.is_self(account)
        if not is_self:
            self.require_sight(question, account)
        key, value = question.request.text("key"), question.request.text("value")
        editable = _SELF_EDITABLE if is_self and not question.is_admin else _EDITABLE
        if key not in editable:
            raise OcsFailure(113 if self.settings.major >= 28 else 103)
        before = (account.quota_definition, account.email, account.display_name, account.password)
        self._edit(account, key, value)
        after = (account.quota_definition, account.email, account.display_name, account.password)
        question.call.had_effect = before != after
        return OcsReply()

    def _edit(self, account: EmulatedAccount, key: str, value: str) -> None:
        if key == "quota":
            self._edit_quota(account, value)
        elif key == "email":
            if value and not is_address(value):
                raise OcsFailure(101 if self.settings.major >= 28 else 102)
            account.email = value.lower()
        elif key in {"display", "displayname"}:
            self._edit_name(account, value)
        elif key == "password":
            fault = self.find_password_fault(value)
            if fault is not None:
                raise OcsFailure(107 if self.settings.major >= 28 else 103, fault)
            account.password = value

    def _edit_name(self, account: EmulatedAccount, name: str) -> None:
        """An empty name is taken without a word and changes nothing."""
        if len(name) > 64:
            raise OcsFailure(101, "Invalid displayname")
        if name.strip():
            account.display_name = name.strip()

    def _edit_quota(self, account: EmulatedAccount, quota: str) -> None:
        code = 101 if self.settings.major >= 30 else 102
        definition = store_quota(quota)
        if definition is None:
            raise OcsFailure(code, f"Invalid quota value {quota}")
        maximum = self.settings.max_quota_bytes
        if maximum is not None and (read_size(quota) or 0) > maximum:
            raise OcsFailure(code, f"Invalid quota value. {quota} is exceeding the maximum quota")
        if definition == "none" and not self.settings.allows_unlimited:
            raise OcsFailure(code, "Unlimited quota is forbidden on this instance")
        account.quota_definition = definition
