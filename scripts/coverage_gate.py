"""Holds the measured coverage against what is demanded; called by ``make test`` after pytest.

Reads the data that pytest-cov left in ``.coverage``, prints one line a package (statements and branches
together), and for a package that misses its mark coverage's own report of what nothing has run. Exit
code 1 then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

DEMANDED_PERCENT: Final = {"states": 95.0, "bm_db": 95.0, "nc": 95.0, "": 90.0}
"""Folder to percent; the empty name is the whole."""


def read_files() -> dict[str, Any]:
    """Per-file figures of coverage's own JSON report, by path."""
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "json", "--quiet", "-o", "-"],
        check=True,
        capture_output=True,
        text=True,
    )
    files: dict[str, Any] = json.loads(report.stdout)["files"]
    return files


def percent_covered(files: dict[str, Any]) -> float:
    """Statements and branches that ran, in percent of all of them; 0 when there are none."""
    summaries = [entry["summary"] for entry in files.values()]
    total = sum(summary["num_statements"] + summary["num_branches"] for summary in summaries)
    covered = sum(summary["covered_lines"] + summary["covered_branches"] for summary in summaries)
    return 100.0 * covered / total if total else 0.0


def main() -> int:
    """Print the figures; 1 when one of them is too low."""
    files = read_files()
    too_low: list[str] = []
    for package, demanded in DEMANDED_PERCENT.items():
        chosen = {
            path: entry for path, entry in files.items() if not package or path.startswith(f"{package}/")
        }
        percent = percent_covered(chosen)
        verdict = "ok" if percent >= demanded else "TOO LOW"
        print(
            f"coverage  {package or 'whole':8} {percent:6.2f} %  (demanded {demanded:.0f} %)  {verdict}",
            flush=True,
        )
        if percent < demanded:
            too_low.append(package)
    for package in too_low:
        include = f"--include={package or '*'}/*"
        command = [sys.executable, "-m", "coverage", "report", include]
        subprocess.run(command, check=False)
    return 1 if too_low else 0


if __name__ == "__main__":
    sys.exit(main())
