"""An operator's resync: asked of the daemon that runs, or done here when none does.

Called by the command line. The daemon may run on another host; it is reached through the journal only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from reconciler.application import Application
from reconciler.journal import Answer
from reconciler.journal.holders import is_gone
from reconciler.one_pass import PassResult
from reconciler.operations import POLL_SECONDS, ask_resync, find_service, lift_quarantine, reconcile_when_free
from states import ServiceState, StepKind


def resync_and_wait(
    app: Application, item_ids: Sequence[int], actor: str, *, timeout_seconds: float
) -> list[PassResult]:
    """Have a pass made over each service, by the daemon or here, and wait for all of them to end.

    When the daemon ends meanwhile, what it has not done is done here.

    Args:
        app: the parts.
        item_ids: the services.
        actor: who asks.
        timeout_seconds: how long to wait for the daemon, and for other workers; a pass that was begun here is
            not broken off.

    Returns:
        How the passes ended, in the order of ``item_ids``; those that were not made say so in ``error``.

    Raises:
        LookupError: as for `ask_resync`; then nothing is done.
        BillingError, JournalError: as they say.
    """
    return _Resync(app, actor, timeout_seconds).run(list(dict.fromkeys(item_ids)))


class _Resync:
    def __init__(self, app: Application, actor: str, timeout_seconds: float) -> None:
        self._app: Final = app
        self._actor: Final = actor
        self._timeout_seconds: Final = timeout_seconds
        self._deadline: Final = time.monotonic() + timeout_seconds
        self._asked: dict[int, int] = {}
        self._results: dict[int, PassResult] = {}

    def run(self, item_ids: list[int]) -> list[PassResult]:
        app = self._app
        if app.journal.daemons.list_running(app.clock()):
            self._asked = dict(zip(ask_resync(app, item_ids, self._actor), item_ids, strict=True))
            self._wait_for_daemon()
        else:
            for item_id in item_ids:
                find_service(app, item_id)
        left = [item for item in item_ids if item not in {*self._results, *self._asked.values()}]
        if left:
            app.fleet.refresh()
        for item_id in left:
            self._results[item_id] = self._work(item_id)
        for item_id in self._asked.values():
            self._results[item_id] = PassResult(
                item_id,
                error=f"not done within {self._timeout_seconds:g} s: the daemon still has it on its list",
            )
        return [self._results[item_id] for item_id in item_ids]

    def _wait_for_daemon(self) -> None:
        """Take in answers until there are all, or nobody is there any more to give them."""
        while self._asked:
            self._take_answers()
            self._take_back()
            if not self._asked or time.monotonic() > self._deadline:
                return
            time.sleep(POLL_SECONDS)

    def _take_answers(self) -> None:
        for request_id, request in self._app.journal.requests.get(list(self._asked)).items():
            if request.answer is not None:
                item_id = self._asked.pop(request_id)
                self._results[item_id] = self._to_result(item_id, request.answer)

    def _take_back(self) -> None:
        """Ask no more of a daemon that has ended."""
        app, requests = self._app, self._app.journal.requests
        if not app.journal.daemons.list_running(app.clock()):
            requests.withdraw(list(self._asked))
            self._take_answers()
            self._asked = {}
            return
        taken = requests.get(list(self._asked)).values()
        left = [one.id for one in taken if one.taken_by is not None and is_gone(one.taken_by)]
        for request_id in requests.withdraw(left) if left else ():
            del self._asked[request_id]

    def _work(self, item_id: int) -> PassResult:
        """One pass here; another worker's is waited for."""
        lift_quarantine(self._app, item_id)
        return reconcile_when_free(self._app, item_id, self._actor, self._deadline)

    def _to_result(self, item_id: int, answer: Answer) -> PassResult:
        record = self._app.journal.services.get(item_id)
        return PassResult(
            item_id,
            record.server_id if record else None,
            ServiceState(answer.state),
            answer.reason,
            [StepKind(step) for step in answer.steps],
            answer.error,
            answer.blocked_by,
        )
