"""What all benchmarks share: samples taken in turn with their baseline's, a printed row a figure, and JSON.

A ratio is the median of the ratios of samples that were taken one right after the other, since nothing else
can be compared on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reconciler.process import collect_seldom

ROUNDS = 5


def read_options(
    description: str | None, words: dict[str, str] | None = None, **sizes: tuple[int, int]
) -> argparse.Namespace:
    """The command line of a benchmark.

    Args:
        description: of the benchmark.
        words: options that are words, each with what stands for its value in the help.
        sizes: options that are numbers, each with its default and that of ``--full``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="at full size")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    for name, value in (words or {}).items():
        parser.add_argument(f"--{name}", metavar=value)
    for name, (quick, full) in sizes.items():
        parser.add_argument(f"--{name}", type=int, help=f"{quick} by default, {full} with --full")
    options = parser.parse_args()
    collect_seldom()  # as all our programs do
    for name, (quick, full) in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, full if options.full else quick)
    return options


def take_time(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def take_turns(rounds: int, *works: Callable[[], object]) -> list[list[float]]:
    """Seconds of each piece of work, taken in turn with the others; one list for each."""
    samples = [[take_time(work) for work in works] for _ in range(rounds)]
    return [list(times) for times in zip(*samples, strict=True)]


class Report:
    """Prints the figures as they come, and keeps them."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._figures: list[dict[str, Any]] = []
        print(f"== {title}")
        print(f"{'figure':62} {'median':>10} {'min':>10} {'max':>10}  {'unit':12} {'ratio':>7}  goal")

    def add(
        self,
        name: str,
        samples: Sequence[float],
        unit: str,
        *,
        baseline: Sequence[float] | None = None,
        ratio: float | None = None,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """Print a figure.

        Args:
            name: what was measured.
            samples, unit: of it.
            baseline: samples that were taken in turn with these; the ratio is to them.
            ratio: when it is computed otherwise.
            most, least: the goal, of the ratio when there is one, else of the median.
        """
        if baseline is not None:
            ratio = statistics.median(one / other for one, other in zip(samples, baseline, strict=True))
        median = statistics.median(samples)
        judged = median if ratio is None else ratio
        limit = most if most is not None else least
        is_kept = None if limit is None else (judged <= limit if most is not None else judged >= limit)
        words = "" if limit is None else f"{'<=' if most is not None else '>='} {limit:g}"
        verdict = {True: "kept", False: "NOT KEPT", None: ""}[is_kept]
        shown = "" if ratio is None else f"{ratio:.2f}"
        numbers = " ".join(f"{_shorten(each):>10}" for each in (median, min(samples), max(samples)))
        print(f"{name:62} {numbers}  {unit:12} {shown:>7}  {words} {verdict}".rstrip(), flush=True)
        self._figures.append(
            {
                "name": name,
                "unit": unit,
                "median": median,
                "min": min(samples),
                "max": max(samples),
                "samples": len(samples),
                "ratio": ratio,
                "goal": words or None,
                "is_kept": is_kept,
            }
        )

    def save(self, path: Path | None) -> None:
        """Write the figures and what machine they are of."""
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        loop_seconds = min(take_time(_run_empty_loop) for _ in range(3))
        document = {
            "title": self._title,
            "machine": {
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "seconds of five million turns of an empty loop": round(loop_seconds, 3),
            },
            "figures": self._figures,
        }
        path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _shorten(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _run_empty_loop() -> None:
    for _ in range(5_000_000):
        pass
