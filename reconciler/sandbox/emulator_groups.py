"""What both products answer about groups: memberships, group administrators, the groups themselves.

They differ only in some codes and messages, which the product modules name as class attributes.
Source: recorded exchanges (tests/recordings) and, for group administrators, the products' sources.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.sandbox.emulator_accounts import CloudProduct, Question
from reconciler.sandbox.emulator_envelope import OcsFailure, OcsReply, as_php_key
from reconciler.sandbox.emulator_state import EmulatedGroup

Refusal = tuple[int, str | None]


class GroupAnswers(CloudProduct):
    """The operations on groups; the attributes are the product's code and message of each refusal."""

    no_subadmin: Refusal
    no_admin: Refusal
    group_exists: Refusal
    group_missing: Refusal
    foreign_group: Refusal

    def list_answers(self) -> dict[str, Callable[[Question], OcsReply]]:
        """The answering method of each operation on groups."""
        return {
            "add_group": self.answer_membership,
            "remove_group": self.answer_membership,
            "add_subadmin": self.answer_subadmin_change,
            "remove_subadmin": self.answer_subadmin_change,
            "list_groups": self.answer_groups,
            "create_group": self.answer_create_group,
            "group_members": self.answer_members,
            "delete_group": self.answer_delete_group,
        }

    def require_subadmin(self, question: Question) -> None:
        """Refuse users who administer nothing."""
        if not question.is_admin and not question.caller.subadmin_of:
            raise OcsFailure(*self.no_subadmin)

    def require_admin(self, question: Question) -> None:
        """Refuse everybody but administrators."""
        if not question.is_admin:
            raise OcsFailure(*self.no_admin)

    def answer_membership(self, question: Question) -> OcsReply:
        """Put an account into a group or take it out; both may be repeated."""
        self.require_subadmin(question)
        groupid = question.request.text("groupid")
        if not groupid:
            raise OcsFailure(101)
        if groupid not in self.state.groups:
            raise OcsFailure(102)
        account = self.state.find(question.request.target or "")
        if account is None:
            raise OcsFailure(103)
        if not question.is_admin and groupid not in question.caller.subadmin_of:
            raise OcsFailure(104)
        if question.call.operation == "add_group":
            question.call.had_effect = groupid not in account.groups
            account.groups = account.groups | {groupid}
            return OcsReply()
        if question.is_self(account) and groupid == "admin":
            raise OcsFailure(105, "Cannot remove yourself from the admin group")
        question.call.had_effect = groupid in account.groups
        account.groups = account.groups - {groupid}
        return OcsReply()

    def answer_subadmin_change(self, question: Question) -> OcsReply:
        """Make an account a group's administrator, or no longer."""
        self.require_admin(question)
        is_adding = question.call.operation == "add_subadmin"
        groupid = question.request.text("groupid")
        account = self.state.find(question.request.target or "")
        if account is None:
            raise OcsFailure(101, "User does not exist")
        if groupid not in self.state.groups:
            raise OcsFailure(102 if is_adding else 101, "Group does not exist")
        if is_adding and groupid == "admin":
            raise OcsFailure(103, "Cannot create subadmins for admin group")
        is_subadmin = groupid in account.subadmin_of
        if not is_adding and not is_subadmin:
            raise OcsFailure(102, "User is not a subadmin of this group")
        question.call.had_effect = is_adding != is_subadmin
        account.subadmin_of = account.subadmin_of ^ ({groupid} if question.call.had_effect else set())
        return OcsReply()

    def answer_groups(self, question: Question) -> OcsReply:
        """Ids of all groups, or of those that a sub-administrator has."""
        self.require_subadmin(question)
        groupids = self.state.groups.keys() if question.is_admin else question.caller.subadmin_of
        return OcsReply(data={"groups": self.list_group_ids(question.request, groupids)})

    def answer_create_group(self, question: Question) -> OcsReply:
        """Make an empty group."""
        self.require_admin(question)
        groupid = question.request.text("groupid")
        if not groupid:
            raise OcsFailure(101, "Invalid group name")
        if groupid in self.state.groups:
            raise OcsFailure(*self.group_exists)
        self.state.groups[groupid] = EmulatedGroup(groupid)
        question.call.had_effect = True
        return OcsReply()

    def answer_members(self, question: Question) -> OcsReply:
        """Ids of a group's members."""
        self.require_subadmin(question)
        groupid = question.request.target or ""
        if groupid not in self.state.groups:
            raise OcsFailure(*self.group_missing)
        if not question.is_admin and groupid not in question.caller.subadmin_of:
            raise OcsFailure(*self.foreign_group)
        members = self.state.members(groupid)
        return OcsReply(data={"users": [as_php_key(account.userid) for account in members]})

    def answer_delete_group(self, question: Question) -> OcsReply:
        """Delete a group, not its members."""
        self.require_admin(question)
        groupid = question.request.target or ""
        if groupid not in self.state.groups:
            raise OcsFailure(101)
        if groupid == "admin":
            raise OcsFailure(102)
        self.state.drop_group(groupid)
        question.call.had_effect = True
        return OcsReply()
