"""Nextcloud's answers about users and groups, version 25 and up.

Each method answers one operation as the real server did in the recorded exchanges
(tests/recordings/nextcloud-*.jsonl); what is newer follows its source up to version 34.
Creating and editing are in `emulator_nextcloud_edits`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.sandbox.emulator_accounts import Question
from reconciler.sandbox.emulator_envelope import OcsFailure, OcsReply, as_php_key, dump_json
from reconciler.sandbox.emulator_groups import GroupAnswers
from reconciler.sandbox.emulator_quota import stored_bytes
from reconciler.sandbox.emulator_state import MISSING, EmulatedAccount

NO_ROUTE: Final = (
    "Invalid query, please check the syntax. API specifications are here: "
    "http://www.freedesktop.org/wiki/Specifications/open-collaboration-services.\n"
)
_COSMETIC: Final = ("phone", "address", "website", "twitter", "organisation", "role", "headline", "biography")
_BUILDS: Final = {"25.0.2": "25.0.2.3", "27.1.0": "27.1.0.7"}


class NextcloudAnswers(GroupAnswers):
    """Everything but creating and editing accounts."""

    no_subadmin = (403, "Logged in user must be at least a sub admin")
    no_admin = (403, "Logged in user must be an admin")
    group_exists = (102, "group exists")
    group_missing = (404, "The requested group could not be found")
    foreign_group = (403, None)

    def list_answers(self) -> dict[str, Callable[[Question], OcsReply]]:
        """The answering method of each operation."""
        return super().list_answers() | {
            "capabilities": self.answer_capabilities,
            "user": self.answer_current_user,
            "list": self.answer_list,
            "details": self.answer_details,
            "disabled": self.answer_details,
            "recent": self.answer_details,
            "get": self.answer_get,
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
            "version": _BUILDS.get(version, f"{version}.1"),
            "versionstring": version,
            "edition": "",
            "productname": "Nextcloud",
            "extendedSupport": False,
        }

    def answer_unknown(self, question: Question) -> OcsReply:
        """No such route: its own code in each API version, and no paging fields."""
        code = 998 if question.request.api_version == 1 else 404
        return OcsReply(code, NO_ROUTE, has_totals=False)

    def answer_capabilities(self, question: Question) -> OcsReply:
        """The version for everybody, more for users."""
        major, minor, micro = (int(part) for part in (*self.settings.version.split("."), "0", "0")[:3])
        capabilities: dict[str, object] = {"bruteforce": {"delay": 0}, "theming": {"name": "Nextcloud"}}
        if question.login.account is not None:
            capabilities = {
                "core": {"pollinterval": 60, "webdav-root": "remote.php/webdav"},
                **capabilities,
                "files": {"bigfilechunking": True, "undelete": True, "versioning": True},
            }
        version = {
            "major": major,
            "minor": minor,
            "micro": micro,
            "string": self.settings.version,
            "edition": "",
            "extendedSupport": False,
        }
        return OcsReply(data={"version": version, "capabilities": capabilities})

    def answer_current_user(self, question: Question) -> OcsReply:
        """Whoever asks."""
        caller = question.caller
        return OcsReply(data=self.describe(caller) | {"display-name": caller.shown_name})

    def answer_list(self, question: Question) -> OcsReply:
        """Ids of one page."""
        self.require_subadmin(question)
        accounts = self.select_page(question, by_name=True, limit=question.request.number("limit"))
        return OcsReply(data={"users": [as_php_key(account.userid) for account in accounts]})

    def answer_details(self, question: Question) -> OcsReply:
        """Everything about the accounts of one page; an empty page is a list, not a map."""
        self.require_subadmin(question)
        accounts = self.select_page(question, by_name=True, limit=question.request.number("limit"))
        if not accounts:
            return OcsReply(data={"users": []})
        entries = b",".join(
            dump_json(entry.userid) + b":" + self._describe_entry(entry) for entry in accounts
        )
        return OcsReply(data_json=b'{"users":{' + entries + b"}}")

    def _describe_entry(self, account: EmulatedAccount) -> bytes:
        context = (self.settings.default_quota, self.settings.disk_free_bytes, self.settings.data_folder)
        kept = account.kept_entry(context)
        if kept is not None:
            return kept
        userid = as_php_key(account.userid)
        content = {"id": userid} if account.is_remnant else self.describe(account) | {"id": userid}
        entry = dump_json(content)
        account.keep_entry(context, entry)
        return entry

    def answer_get(self, question: Question) -> OcsReply:
        """One account; "no such user" is said differently to those who may not know."""
        account = self.state.find(question.request.target or "")
        if account is None or account.is_remnant:
            raise OcsFailure(404, "User does not exist")
        if not (question.is_self(account) or question.may_see(account)):
            raise OcsFailure(998)
        return OcsReply(data=self.describe(account))

    def answer_enable(self, question: Question) -> OcsReply:
        """Enable or disable, as often as one likes, but nobody oneself."""
        self.require_subadmin(question)
        account = self.state.find(question.request.target or "")
        if account is None or question.is_self(account):
            raise OcsFailure(101)
        self.require_sight(question, account)
        is_enabled = question.call.operation == "enable"
        question.call.had_effect = account.is_enabled != is_enabled
        account.is_enabled = is_enabled
        return OcsReply()

    def answer_delete(self, question: Question) -> OcsReply:
        """Delete an account at once."""
        self.require_subadmin(question)
        account = self.find_or_998(question)
        if question.is_self(account):
            raise OcsFailure(101)
        self.require_sight(question, account)
        self.remove(account)
        question.call.had_effect = True
        return OcsReply()

    def answer_user_groups(self, question: Question) -> OcsReply:
        """Groups of an account; a sub-administrator sees only its own ones."""
        account = self.find_or_998(question)
        if question.is_admin or question.is_self(account):
            return OcsReply(data={"groups": sorted(account.groups)})
        self.require_sight(question, account)
        return OcsReply(data={"groups": sorted(account.groups & question.caller.subadmin_of)})

    def answer_subadmins(self, question: Question) -> OcsReply:
        """Groups that an account administers."""
        self.require_admin(question)
        account = self.state.find(question.request.target or "")
        if account is None:
            raise OcsFailure(404, "User does not exist")
        return OcsReply(data=sorted(account.subadmin_of))

    def describe(self, account: EmulatedAccount) -> dict[str, object]:
        """One account as GET users/{id} shows it."""
        name = account.shown_name
        is_newer = self.settings.major >= 27
        fields: dict[str, object] = {
            "enabled": account.is_enabled,
            "storageLocation": f"{self.settings.data_folder}/{account.userid}",
            "id": account.userid,
            "lastLogin": account.last_login_ms,
            "backend": "Database",
            "subadmin": sorted(account.subadmin_of),
            "quota": self._describe_quota(account),
            "email": account.email or None,
            "additional_mail": [],
            "displayname": name,
            **dict.fromkeys(_COSMETIC, ""),
            **({"manager": "", "display-name": name, "fediverse": ""} if is_newer else {}),
            "profile_enabled": "1",
            "groups": sorted(account.groups),
            "language": "en",
            "locale": "",
            "notify_email": None,
            "backendCapabilities": {"setDisplayName": True, "setPassword": True},
        }
        fields |= account.field_overrides
        return {field: value for field, value in fields.items() if value is not MISSING}

    def _describe_quota(self, account: EmulatedAccount) -> dict[str, object]:
        definition = account.quota_definition
        if definition == "default":
            definition = self.settings.default_quota
        is_unlimited = definition == "none"
        if not account.has_logged_in:
            return {"quota": "none" if is_unlimited else stored_bytes(definition), "used": 0}
        quota = -3 if is_unlimited else stored_bytes(definition)
        return self.describe_storage(account, definition) | {"quota": quota}

    def find_or_998(self, question: Question) -> EmulatedAccount:
        """The account that the path names."""
        account = self.state.find(question.request.target or "")
        if account is None:
            raise OcsFailure(998)
        return account

    def require_sight(self, question: Question, account: EmulatedAccount) -> None:
        """Refuse those who do not administer that account."""
        if not question.may_see(account):
            raise OcsFailure(998)
