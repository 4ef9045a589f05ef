"""Fuzzes the properties of tests/fuzz for a while; called by ``make fuzz``, never by ``make test``.

With atheris (which is installed when this Python has it) each property is a target of its own, driven by the
coverage of our code. Without it hypothesis alone tries some thousand examples of each. Which of the two it
was is said at the beginning and at the end. What was found is kept below build/fuzz; hypothesis remembers it,
too, so that ``make test`` fails with it afterwards.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
TESTS: Final = ROOT / "tests" / "fuzz"
KEPT: Final = ROOT / "build" / "fuzz"
LOCK: Final = ROOT / "requirements-fuzz.lock"
OURS: Final = ["nc", "bm_db", "states", "defusedxml"]
"""Packages whose coverage leads the search."""
_MEMORY_MIB: Final = 2048
_INPUT_SECONDS: Final = 25


def list_targets() -> list[str]:
    """Every property that needs no fixture, as ``module:function``."""
    targets = []
    for path in sorted(TESTS.glob("test_*.py")):
        module = importlib.import_module(f"tests.fuzz.{path.stem}")
        targets += [f"{module.__name__}:{name}" for name in _list_properties(module)]
    return targets


def _list_properties(module: ModuleType) -> list[str]:
    found = []
    for name, function in inspect.getmembers(module, inspect.isfunction):
        is_own = function.__module__ == module.__name__ and hasattr(function, "hypothesis")
        # What hypothesis does not give is a fixture: only pytest can call it.
        if is_own and not inspect.signature(function).parameters:
            found.append(name)
    return found


def has_atheris() -> bool:
    """Whether atheris is there, or can be installed for this Python."""
    if importlib.util.find_spec("atheris") is None:
        command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        answer = subprocess.run([*command, "-r", str(LOCK)], check=False, capture_output=True, text=True)
        if answer.returncode:
            print(f"fuzz: atheris cannot be installed: {''.join(answer.stderr.strip().splitlines()[-1:])}")
        importlib.invalidate_caches()
    return importlib.util.find_spec("atheris") is not None


def fuzz_one(target: str, seconds: int) -> None:
    """Fuzz one property in this process; libFuzzer ends it."""
    atheris: Any = importlib.import_module("atheris")
    module_name, _, name = target.partition(":")
    with atheris.instrument_imports(include=OURS):
        module = importlib.import_module(module_name)
    function: Any = getattr(module, name)
    corpus = KEPT / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "timeout": _INPUT_SECONDS,
        "rss_limit_mb": _MEMORY_MIB,
        "artifact_prefix": f"{KEPT}/{name}-",
        "verbosity": 0,
        "print_final_stats": 1,
        "max_len": 4096,
    }
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
    atheris.Setup(arguments, function.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def run_atheris(targets: list[str], seconds: int) -> list[str]:
    """Fuzz the properties one after the other; those that failed."""
    failed = []
    for target in targets:
        print(f"fuzz: {target} for {seconds} s", flush=True)
        command = [sys.executable, "-m", "scripts.fuzz", "--one", target, "--seconds", str(seconds)]
        answer = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        runs = [line for line in answer.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"fuzz:   {runs[0].split()[-1] if runs else 'unknown number of'} inputs", flush=True)
        if answer.returncode:
            print(answer.stdout[-4000:], answer.stderr[-4000:], sep="\n", flush=True)
            failed.append(target)
    return failed


def run_hypothesis(*names: str) -> int:
    """Try many examples by hypothesis alone; pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-profile=fuzz", "--timeout=7200", *names]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main() -> int:
    """1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target, with atheris")
    parser.add_argument("--one", help="only this target, in this process, with atheris")
    chosen = parser.parse_args()
    if chosen.one:
        fuzz_one(chosen.one, chosen.seconds)
        return 0
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    if not has_atheris():
        print(f"fuzz: by hypothesis alone, {version} has no atheris: many examples, not led by coverage")
        code = run_hypothesis("tests/fuzz")
        print("fuzz: done by hypothesis alone, without atheris")
        return code
    targets = list_targets()
    print(f"fuzz: by atheris on {version}, {len(targets)} targets; what needs sockets by hypothesis")
    failed = run_atheris(targets, chosen.seconds)
    code = run_hypothesis("tests/fuzz/test_wire.py")
    for target in failed:
        print(f"fuzz: FAILED {target}: its input is in build/fuzz, and pytest tests/fuzz shows it")
    print(f"fuzz: done by atheris, {len(targets) - len(failed)} of {len(targets)} targets found nothing")
    return 1 if failed or code else 0


if __name__ == "__main__":
    sys.exit(main())
