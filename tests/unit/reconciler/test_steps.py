"""A planned step becomes exactly one change on a real server, and its failure says what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nc import CloudClient, ServerConnection
from nc import errors as nc_errors
from reconciler.edits import EditRank
from reconciler.fleet import EDIT_KINDS
from reconciler.journal import Outcome
from reconciler.sandbox.emulator import CloudEmulator, Fault
from reconciler.steps import (
    call,
    describe_account,
    describe_step,
    explain_refused_name,
    judge_failure,
    rank_edit,
)
from states import DEFAULT, UNKNOWN_QUOTA, UNLIMITED, ObservedAccount, ServiceState, Step, StepKind
from tests.unit.reconciler.samples import PASSWORD, make_step

GIB = 1024**3


@pytest.fixture
def cloud() -> Iterator[CloudEmulator]:
    with CloudEmulator("nextcloud") as emulator:
        emulator.add_account("user_7", email="old@example.net", groups=["silver"], quota="2 GB")
        emulator.add_group("gold")
        yield emulator


@pytest.fixture
def client(cloud: CloudEmulator) -> Iterator[CloudClient]:
    connection = ServerConnection(
        cloud.base_url, cloud.admin_user, cloud.admin_password, requests_per_second=0
    )
    opened = CloudClient(connection)
    opened.connect()
    yield opened
    opened.close()


Check = Callable[[CloudEmulator], bool]
WITH_PASSWORD = {StepKind.CREATE, StepKind.SET_PASSWORD}


@pytest.mark.parametrize(
    ("step", "is_done"),
    [
        (
            make_step(StepKind.CREATE, "new", quota=GIB, email="n@example.net", groups=("gold",)),
            lambda cloud: (
                (
                    cloud.accounts["new"].quota_definition,
                    cloud.accounts["new"].email,
                    cloud.accounts["new"].groups,
                    cloud.accounts["new"].password,
                )
                == ("1 GB", "n@example.net", {"gold"}, PASSWORD)
            ),
        ),
        (
            make_step(StepKind.CREATE, "new", quota=UNLIMITED),
            lambda cloud: cloud.accounts["new"].quota_definition == "none",
        ),
        (
            make_step(StepKind.SET_QUOTA, quota=GIB),
            lambda cloud: cloud.accounts["user_7"].quota_definition == "1 GB",
        ),
        (
            make_step(StepKind.SET_EMAIL, email="new@example.net"),
            lambda cloud: cloud.accounts["user_7"].email == "new@example.net",
        ),
        (make_step(StepKind.DISABLE), lambda cloud: not cloud.accounts["user_7"].is_enabled),
        (make_step(StepKind.DELETE), lambda cloud: "user_7" not in cloud.accounts),
        (
            make_step(StepKind.ADD_GROUP, groups=("gold",)),
            lambda cloud: cloud.accounts["user_7"].groups == {"silver", "gold"},
        ),
        (
            make_step(StepKind.REMOVE_GROUP, groups=("silver",)),
            lambda cloud: cloud.accounts["user_7"].groups == set(),
        ),
        (make_step(StepKind.CREATE_GROUP, groups=("platinum",)), lambda cloud: "platinum" in cloud.groups),
        (make_step(StepKind.SET_PASSWORD), lambda cloud: cloud.accounts["user_7"].password == PASSWORD),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Step) else None,
)
def test_step_is_one_change_on_the_server(
    cloud: CloudEmulator, client: CloudClient, step: Step, is_done: Check
) -> None:
    assert "new" not in cloud.accounts
    assert "platinum" not in cloud.groups
    call(client, step, PASSWORD if step.kind in WITH_PASSWORD else None)
    assert is_done(cloud)
    assert len(cloud.mutating_calls()) == 1


def test_disabled_account_is_enabled(cloud: CloudEmulator, client: CloudClient) -> None:
    cloud.accounts["user_7"].is_enabled = False
    call(client, make_step(StepKind.ENABLE), None)
    assert cloud.accounts["user_7"].is_enabled
    assert len(cloud.mutating_calls()) == 1


@pytest.mark.parametrize(
    ("step", "password"),
    [
        (make_step(StepKind.CREATE, "new", quota=GIB), None),
        (make_step(StepKind.CREATE, "new", quota=None), PASSWORD),
        (make_step(StepKind.SET_QUOTA), None),
        (make_step(StepKind.SET_EMAIL), None),
        (make_step(StepKind.SET_PASSWORD), None),
        (make_step(StepKind.ADOPT), None),
        (make_step(StepKind.PROVE_OWNERSHIP), None),
    ],
)
def test_step_that_lacks_what_it_needs_sends_nothing(
    cloud: CloudEmulator, client: CloudClient, step: Step, password: str | None
) -> None:
    with pytest.raises(AssertionError, match="lacks what it needs") as caught:
        call(client, step, password)
    assert PASSWORD not in str(caught.value)
    assert cloud.mutating_calls() == []


def test_failure_comes_as_the_client_tells_it(cloud: CloudEmulator, client: CloudClient) -> None:
    with pytest.raises(nc_errors.AccountMissing):
        call(client, make_step(StepKind.DISABLE, "nobody"), None)
    cloud.faults.append(Fault("create", partial=True))
    with pytest.raises(nc_errors.OutcomeUnknown) as caught:
        call(client, make_step(StepKind.CREATE, "new", quota=GIB), PASSWORD)
    assert judge_failure(make_step(StepKind.CREATE), caught.value) is Outcome.UNKNOWN


def test_edits_are_what_nextcloud_limits(cloud: CloudEmulator, client: CloudClient) -> None:
    cloud.edits.limit = 0
    steps = {
        StepKind.SET_QUOTA: make_step(StepKind.SET_QUOTA, quota=GIB),
        StepKind.SET_EMAIL: make_step(StepKind.SET_EMAIL, email="n@example.net"),
        StepKind.DISABLE: make_step(StepKind.DISABLE),
        StepKind.ENABLE: make_step(StepKind.ENABLE),
        StepKind.ADD_GROUP: make_step(StepKind.ADD_GROUP, groups=("gold",)),
        StepKind.REMOVE_GROUP: make_step(StepKind.REMOVE_GROUP, groups=("gold",)),
        StepKind.CREATE_GROUP: make_step(StepKind.CREATE_GROUP, groups=("platinum",)),
        StepKind.CREATE: make_step(StepKind.CREATE, "new", quota=GIB),
        StepKind.SET_PASSWORD: make_step(StepKind.SET_PASSWORD),
        StepKind.DELETE: make_step(StepKind.DELETE),
    }
    limited = set()
    for kind, step in steps.items():
        try:
            call(client, step, PASSWORD if kind in WITH_PASSWORD else None)
        except nc_errors.RateLimited:
            limited.add(kind)
    assert limited == EDIT_KINDS
    assert set(steps) == {kind for kind in StepKind if kind.is_mutating}


@pytest.mark.parametrize(
    ("step", "state", "rank"),
    [
        (make_step(StepKind.SET_QUOTA, quota=GIB), ServiceState.PROVISIONING, EditRank.PROMPT),
        (make_step(StepKind.SET_EMAIL, email="a@b.cc"), ServiceState.PROVISIONING, EditRank.PROMPT),
        (make_step(StepKind.SET_PASSWORD), ServiceState.ACTIVE, EditRank.PROMPT),
        (make_step(StepKind.SET_QUOTA, quota=GIB), ServiceState.DRIFTED, EditRank.LACK),
        (make_step(StepKind.SET_QUOTA, quota=GIB, is_decrease=True), ServiceState.DRIFTED, EditRank.REST),
        (make_step(StepKind.SET_EMAIL, email="a@b.cc"), ServiceState.DRIFTED, EditRank.REST),
    ],
)
def test_who_comes_first_when_edits_are_scarce(step: Step, state: ServiceState, rank: EditRank) -> None:
    assert rank_edit(step, state) is rank


# -- what a failure tells


@pytest.mark.parametrize("kind", [kind for kind in StepKind if kind.is_mutating])
def test_unanswered_change_leaves_its_effect_unknown(kind: StepKind) -> None:
    assert judge_failure(make_step(kind), nc_errors.OutcomeUnknown()) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        nc_errors.AccountExists,
        nc_errors.AccountIdRefused,
        nc_errors.QuotaRefused,
        nc_errors.EmailRefused,
        nc_errors.BadAnswer,
        nc_errors.ServerError,
        nc_errors.ServerTimeout,
    ],
)
def test_create_that_may_have_left_an_account_behind_is_unknown(error: type[nc_errors.CloudError]) -> None:
    assert judge_failure(make_step(StepKind.CREATE), error()) is Outcome.UNKNOWN
    assert judge_failure(make_step(StepKind.SET_QUOTA), error()) is Outcome.FAILED


@pytest.mark.parametrize(
    "error",
    [
        nc_errors.GroupMissing,
        nc_errors.WeakPassword,
        nc_errors.ServerUnreachable,
        nc_errors.TlsFailure,
        nc_errors.Maintenance,
        nc_errors.RateLimited,
        nc_errors.CredentialsRefused,
        nc_errors.PermissionRefused,
        nc_errors.PasswordConfirmationRequired,
    ],
)
def test_create_that_was_certainly_refused_made_nothing(error: type[nc_errors.CloudError]) -> None:
    assert judge_failure(make_step(StepKind.CREATE), error()) is Outcome.FAILED


def test_refused_name_comes_with_its_cure() -> None:
    text = explain_refused_name(nc_errors.AccountIdRefused("cloud.example refuses .."))
    assert text == "cloud.example refuses ..: correct the service's parameter username"


# -- words


@pytest.mark.parametrize(
    ("observed", "text"),
    [
        (None, "absent"),
        (
            ObservedAccount("a", is_enabled=True, quota=GIB, email="a@b.cc", groups=frozenset({"b", "a"})),
            "enabled; quota 1 GB; groups a, b; e-mail a@b.cc",
        ),
        (
            ObservedAccount("a", is_enabled=False, quota=UNLIMITED, email="", groups=frozenset()),
            "disabled; quota none; groups none; e-mail none",
        ),
        (
            ObservedAccount("a", is_enabled=True, quota=DEFAULT),
            "enabled; quota default; groups none; e-mail none",
        ),
        (
            ObservedAccount("a", is_enabled=True, quota=UNKNOWN_QUOTA),
            "enabled; quota unknown; groups none; e-mail none",
        ),
    ],
)
def test_account_is_described_in_one_line(observed: ObservedAccount | None, text: str) -> None:
    assert describe_account(observed) == text


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (make_step(StepKind.PROVE_OWNERSHIP), "log in with the password of the unanswered create"),
        (make_step(StepKind.ADOPT), "adopt the account that billing names"),
        (make_step(StepKind.DISABLE), "disabled"),
        (make_step(StepKind.ENABLE), "enabled"),
        (make_step(StepKind.DELETE), "absent"),
        (make_step(StepKind.SET_QUOTA, quota=GIB), "quota 1 GB"),
        (make_step(StepKind.SET_EMAIL, email="a@b.cc"), "e-mail a@b.cc"),
        (make_step(StepKind.ADD_GROUP, groups=("gold",)), "in group gold"),
        (make_step(StepKind.REMOVE_GROUP, groups=("gold",)), "not in group gold"),
        (make_step(StepKind.CREATE_GROUP, groups=("gold",)), "group gold exists"),
        (make_step(StepKind.SET_PASSWORD), "a new password"),
        (make_step(StepKind.CREATE, quota=GIB), "present; quota 1 GB; e-mail none"),
        (
            make_step(StepKind.CREATE, quota=UNLIMITED, email="a@b.cc", groups=("gold",)),
            "present; quota none; e-mail a@b.cc; groups gold",
        ),
    ],
)
def test_step_is_described_by_what_it_is_to_reach(step: Step, text: str) -> None:
    assert describe_step(step) == text


def test_every_step_has_words() -> None:
    for kind in StepKind:
        assert describe_step(make_step(kind, quota=GIB, email="a@b.cc", groups=("gold",)))
