"""What would be done: the dry run behind `reconciler plan`. Changes nothing, anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from nc.errors import AccountIdRefused, CloudError
from reconciler.application import Application
from reconciler.diagnosis import tell
from reconciler.fleet import CloudServer, ServerStopped
from reconciler.remembering import recall
from reconciler.scan import Suspect, make_first_record, read_desired, scan_server
from reconciler.steps import describe_step, explain_refused_name
from states import (
    DesiredService,
    Difference,
    ServiceState,
    Step,
    StepKind,
    Verdict,
    classify,
    plan_steps,
)


@dataclass(frozen=True, slots=True)
class PlannedService:
    """What would be done about one service.

    Attributes:
        item_id, server_id, userid: which one.
        verdict: what it is now.
        steps: what would be done, as far as can be foreseen; empty when a person must decide.
    """

    item_id: int
    server_id: int | None
    userid: str
    verdict: Verdict
    steps: tuple[Step, ...]

    @property
    def changes(self) -> list[str]:
        """The steps that change the server, in words."""
        return [f"{step.kind}: {describe_step(step)}" for step in self.steps if step.kind.is_mutating]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The fields that differ."""
        return self.verdict.differences


@dataclass(slots=True)
class Plan:
    """The whole dry run.

    Attributes:
        services: how many were compared.
        planned: those that are not as sold, or that a person must look at.
        errors: why a server or a service could not be compared, by its name.
        orphans: accounts that look like ours and belong to no service, by server id.
    """

    services: int = 0
    planned: list[PlannedService] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    orphans: dict[int, list[str]] = field(default_factory=dict)

    @property
    def has_changes(self) -> bool:
        """Whether anything would be changed."""
        return any(planned.changes for planned in self.planned)


def make_plan(app: Application, *, item_id: int | None = None, server_id: int | None = None) -> Plan:
    """Compare everything, one server, or one service, and change nothing.

    Raises:
        BillingError, JournalError: they cannot be read.
        LookupError: there is no such service or server.
    """
    servers = app.fleet.refresh()
    if item_id is not None:
        return _plan_service(app, item_id)
    if server_id is not None:
        servers = [server for server in servers if server.id == server_id]
        if not servers:
            raise LookupError(f"billing has no server {server_id} of our module")
    read = read_desired(app, is_dry_run=True)
    plan = Plan()
    for server in servers:
        plan.services += len(read.services.get(server.id, []))
        try:
            scan = scan_server(app, server, lambda: read, is_dry_run=True)
            if scan.orphans:
                plan.orphans[server.id] = scan.orphans
            for suspect in scan.suspects:
                try:
                    planned = _look_again(app, server, suspect, read.namesakes.get(suspect.item_id))
                except CloudError as error:
                    plan.errors[f"service {suspect.item_id}"] = tell(server, error)
                else:
                    plan.planned += [planned] if planned is not None else []
        except (ServerStopped, CloudError) as error:
            plan.errors[str(server)] = tell(server, error)
    plan.planned.sort(key=lambda planned: planned.item_id)
    return plan


def _plan_service(app: Application, item_id: int) -> Plan:
    desired = app.billing.get_service(item_id)
    if desired is None:
        raise LookupError(f"billing has no service {item_id}")
    server = app.fleet.get(desired.server_id)
    if server is None:
        raise LookupError(f"service {item_id} is not on a server of our module")
    plan = Plan(services=1)
    try:
        server.ensure_ready()
        planned = _judge(app, server, desired, app.journal.services.find_namesake(desired))
    except (ServerStopped, CloudError) as error:
        plan.errors[str(server)] = tell(server, error)
        return plan
    if planned.steps or not planned.verdict.state.is_stable:
        plan.planned.append(planned)
    return plan


def _look_again(
    app: Application, server: CloudServer, suspect: Suspect, namesake: int | None
) -> PlannedService | None:
    """A suspect as a pass would judge it; None when it turns out to be as sold."""
    desired, verdict = suspect.desired, suspect.verdict
    if desired is None or verdict is None:
        return None
    planned = PlannedService(desired.item_id, server.id, desired.username, verdict, suspect.steps)
    is_created = any(step.kind is StepKind.CREATE for step in suspect.steps)
    if desired.username and (not suspect.is_surely_seen or (is_created and desired.is_password_recorded)):
        # The bulk read leaves passwords as they are: whether one can be read decides about a creation.
        fresh = app.billing.get_service(desired.item_id)
        if fresh is None:
            return None
        planned = _judge(app, server, fresh, namesake)
    return None if planned.verdict.state.is_stable and not planned.changes else planned


def _judge(
    app: Application, server: CloudServer, desired: DesiredService, namesake: int | None
) -> PlannedService:
    circumstances = app.reconciler.get_circumstances(server, namesake=namesake)
    record = app.journal.services.get(desired.item_id) or make_first_record(desired, circumstances.now)
    memory = recall(desired, record)
    observed = None
    if desired.username:
        server.ensure_ready()
        try:
            with server.calling():
                observed = server.client.get_account(desired.username)
        except AccountIdRefused as error:
            verdict = Verdict(ServiceState.QUARANTINED, explain_refused_name(error))
            return PlannedService(desired.item_id, server.id, desired.username, verdict, ())
    verdict = classify(desired, observed, memory, circumstances)
    steps = plan_steps(verdict, desired, observed, memory, circumstances)
    return PlannedService(desired.item_id, server.id, desired.username, verdict, tuple(steps))
