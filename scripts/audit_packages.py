"""Checks, without a network, that what is installed is what the lock files pin; called by ``make check``.

Every package that the project or its tools need, and what those need in turn, must be pinned to one exact
version and be installed in it; and a lock file names no index, no address and no option of pip. Exit code 1,
with one line for each fault. (Whether a pinned version has a known hole only the network knows:
``pip-audit -r requirements.lock``.)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT: Final = "bill-nextcloud"
NEEDED: Final = ("requirements.lock", "requirements-dev.lock")
PINNED: Final = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; [a-z_="0-9. ]+)?')


def list_pins(folder: Path) -> Iterator[tuple[str, Requirement]]:
    """File and pin of every line; a line that is none ends the program."""
    for path in sorted(folder.glob("requirements*.lock")):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("#"):
                continue
            if not PINNED.fullmatch(line):
                sys.exit(f"audit: {path.name}: {line!r} is no exact version, or names more than a package")
            try:
                yield path.name, Requirement(line)
            except InvalidRequirement:
                sys.exit(f"audit: {path.name}: {line!r} cannot be read")


def read_pins(folder: Path, names: tuple[str, ...] = NEEDED) -> dict[str, str]:
    """Version of each package for this Python."""
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for name, pin in list_pins(folder)
        if name in names and (pin.marker is None or pin.marker.evaluate())
    }


def list_needed(distribution: str, extras: frozenset[str] = frozenset()) -> dict[str, frozenset[str]]:
    """What a package needs on this machine: name to the extras that are asked of it."""
    needed: dict[str, frozenset[str]] = {}
    environment = {key: str(value) for key, value in default_environment().items()}
    for text in metadata.requires(distribution) or ():
        requirement = Requirement(text)
        is_needed = requirement.marker is None or any(
            requirement.marker.evaluate({**environment, "extra": extra}) for extra in extras or {""}
        )
        if is_needed:
            name = canonicalize_name(requirement.name)
            needed[name] = needed.get(name, frozenset()) | frozenset(requirement.extras)
    return needed


def list_faults(pins: dict[str, str]) -> list[str]:
    """What is needed and not pinned, not there, or there in another version."""
    faults: list[str] = []
    seen: set[str] = set()
    waiting = {PROJECT: frozenset({"", "dev"})}
    while waiting:
        name, extras = waiting.popitem()
        try:
            needed = list_needed(name, extras)
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            faults.append(f"{name} is needed and not installed: run scripts/setup check")
            continue
        if name != PROJECT and name not in pins:
            faults.append(f"{name} is needed and not pinned: run make lock")
        elif name != PROJECT and pins[name] != version:
            faults.append(
                f"{name} is installed as {version}, pinned is {pins[name]}: run scripts/setup check"
            )
        seen.add(name)
        waiting |= {other: asked for other, asked in needed.items() if other not in seen}
    return sorted(faults)


def main() -> int:
    """1 when there is a fault."""
    pins = read_pins(ROOT)
    faults = list_faults(pins)
    for fault in faults:
        print(f"audit: {fault}")
    if not faults:
        print(f"audit: {len(pins)} pinned packages, and what is needed is installed as pinned")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
