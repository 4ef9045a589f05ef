"""Draws how costs grow with the number of services, from the figures of `make bench-full`.

``python -m scripts.plot_benchmarks build/bench/memory.json build/bench``: an SVG for each unit, drawn by
gnuplot. Figures are taken whose names begin with "N services: ".
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

Series = dict[str, list[tuple[int, float]]]
"""By name, points: how many services, and the figure."""


def read_series(figures: list[dict[str, Any]]) -> dict[str, Series]:
    """By unit, the figures that were taken at several sizes; of one that was taken twice, the first."""
    found: dict[str, Series] = defaultdict(lambda: defaultdict(list))
    for figure in figures:
        match = re.fullmatch(r"([\d,]+) services: (.+)", figure["name"])
        if match is None:
            continue
        count, points = int(match[1].replace(",", "")), found[figure["unit"]][match[2]]
        if not points or points[-1][0] != count:
            points.append((count, figure["median"]))
    return found


def make_script(series: Series, unit: str, target: Path) -> str:
    """What gnuplot is told: lines through points over a logarithmic number of services."""
    plots = ", ".join(f"'-' with linespoints title '{name}'" for name in series)
    blocks = [
        "\n".join([*(f"{count} {value}" for count, value in points), "e"]) for points in series.values()
    ]
    head = [
        "set terminal svg size 800,500",
        f"set output '{target}'",
        "set logscale x",
        "set format x '%.0s%c'",
        "set xlabel 'services'",
        f"set ylabel '{unit}'",
        "set yrange [0:*]",
        "set key top left",
        "set grid",
    ]
    return "\n".join([*head, f"plot {plots}", *blocks, ""])


def main() -> int:
    """Draw; exit code 1 when gnuplot is missing."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if shutil.which("gnuplot") is None:
        print("plots: not drawn, gnuplot is missing: apt-get install gnuplot-nox", file=sys.stderr)
        return 1
    names = {"s": "seconds", "MiB": "memory"}
    for unit, series in read_series(json.loads(source.read_text("utf-8"))["figures"]).items():
        target = folder / f"{names.get(unit, unit)}.svg"
        subprocess.run(["gnuplot"], input=make_script(series, unit, target), text=True, check=True)
        print(f"plots: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
