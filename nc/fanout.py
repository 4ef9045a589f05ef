"""Many small requests side by side in bounded memory; used by `nc.owncloud` for its listing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_QUEUED_PER_WORKER = 2


def map_unordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """The function's results in the order they come; only a few items are taken ahead.

    An exception of the function ends it; nothing new is begun then, nor after the caller stops.
    """
    waiting = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="nc-read")
    try:
        running: set[Future[Result]] = {
            pool.submit(function, item) for item in islice(waiting, workers * _QUEUED_PER_WORKER)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(function, item) for item in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
