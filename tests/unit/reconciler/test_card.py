"""What the client reads on the service's card."""

from __future__ import annotations

import pytest

from reconciler.card import describe_state, describe_used
from reconciler.panel.messages import Language
from states import ServiceState

MB, GB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("state", "russian", "english"),
    [
        (ServiceState.ACTIVE, "работает", "active"),
        (ServiceState.SUSPENDED, "приостановлен", "suspended"),
        (ServiceState.QUARANTINED, "ошибка: ", "error: "),
        (ServiceState.BACKOFF, "ошибка: ", "error: "),
    ],
)
def test_states_that_last_are_told(state: ServiceState, russian: str, english: str) -> None:
    assert (describe_state(state, 3, "ru") or "").startswith(russian)
    assert (describe_state(state, 3, "en") or "").startswith(english)


@pytest.mark.parametrize("language", ["ru", "en"])
def test_what_is_about_to_change_leaves_the_card_alone(language: Language) -> None:
    told = {state for state in ServiceState if describe_state(state, 99, language) is not None}
    assert told == {
        ServiceState.ACTIVE,
        ServiceState.SUSPENDED,
        ServiceState.QUARANTINED,
        ServiceState.BACKOFF,
    }
    assert describe_state(ServiceState.BACKOFF, 2, language) is None, "most failures are over soon"


@pytest.mark.parametrize(
    ("used_bytes", "russian", "english"),
    [
        (0, "менее 10 МБ", "less than 10 MB"),
        (4 * MB, "менее 10 МБ", "less than 10 MB"),
        (14 * MB, "10 МБ", "10 MB"),
        (994 * MB, "990 МБ", "990 MB"),
        (996 * MB, "1,0 ГБ", "1.0 GB"),
        (int(1.44 * GB), "1,4 ГБ", "1.4 GB"),
        (int(99.9 * GB), "99,9 ГБ", "99.9 GB"),
        (int(1234.4 * GB), "1234 ГБ", "1234 GB"),
    ],
)
def test_used_space_is_told_coarsely(used_bytes: int, russian: str, english: str) -> None:
    assert describe_used(used_bytes, "ru") == russian
    assert describe_used(used_bytes, "en") == english
