"""Finds what our code must not do: shells, SQL of texts, unsafe readers, careless HTTP, leaky comparison.

By the syntax tree, not by the text: a comment is no call. Held against the packages by `test_source_rules`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PACKAGES: Final = ("states", "bm_db", "nc", "reconciler")
ROOT: Final = Path(__file__).parents[2]

_FORBIDDEN_CALLS: Final = {
    "shell": {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"},
    "code": {"?eval", "?exec", "?compile", "?__import__"},
    "unsafe reader": {
        *("pickle.*", "marshal.*", "shelve.*", "yaml.load", "tempfile.mktemp"),
        # defusedxml reads; the standard library's readers expand entities.
        *(
            f"xml.etree.ElementTree.{name}"
            for name in ("fromstring", "parse", "XML", "iterparse", "XMLParser")
        ),
    },
}
_FORBIDDEN_IMPORTS: Final = {
    "pickle",
    "marshal",
    "shelve",
    "telnetlib",
    "ftplib",
    "lxml",
    "xml.sax",
    "xml.dom",
}
_SHELLS: Final = {"sh", "bash", "/bin/sh", "/bin/bash"}
_STARTERS: Final = {"subprocess.Popen", "subprocess.run", "subprocess.call", "subprocess.check_call"}
_STARTERS_OF_OS: Final = ("os.exec", "os.spawn", "os.posix_spawn")
_SQL: Final = ("sqlalchemy.text", "sqlalchemy.literal_column", ".exec_driver_sql", ".executescript")
_HTTP: Final = {f"requests.{verb}" for verb in ("get", "post", "put", "delete", "head", "request")}
_SECRET_NAMES: Final = {"token", "_token", "password", "_password", "given"}


class Finding(NamedTuple):
    """One place where a rule is met."""

    rule: str
    place: str
    """File and the innermost function or class."""
    line: int


def list_sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def scan(source: str, name: str) -> list[Finding]:
    """Everything in a module that a rule forbids."""
    finder = _Finder(name, _list_aliases(ast.parse(source)))
    finder.visit(ast.parse(source))
    return finder.found


def _list_aliases(tree: ast.AST) -> dict[str, str]:
    """What imported names stand for: ``sa`` is sqlalchemy, ``run`` is subprocess.run."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                root = each.name.partition(".")[0]
                aliases[each.asname or root] = each.name if each.asname else root
        elif isinstance(node, ast.ImportFrom):
            aliases |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return aliases


class _Finder(ast.NodeVisitor):
    def __init__(self, name: str, aliases: dict[str, str]) -> None:
        self.found: list[Finding] = []
        self._name = name
        self._aliases = aliases
        self._within: list[str] = []

    def _note(self, rule: str, node: ast.expr | ast.stmt) -> None:
        self.found.append(Finding(rule, "::".join([self._name, *self._within[-1:]]), node.lineno))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._go_into(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._go_into(node)

    def _go_into(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            if each.name in _FORBIDDEN_IMPORTS:
                self._note("unsafe reader", node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module in _FORBIDDEN_IMPORTS:
            self._note("unsafe reader", node)

    def visit_Call(self, node: ast.Call) -> None:
        called = self._describe(node.func)
        for rule, names in _FORBIDDEN_CALLS.items():
            if any(_is_named(called, name) for name in names):
                self._note(rule, node)
        for rule in (*self._judge_process(node, called), *_judge_http(node, called)):
            self._note(rule, node)
        if called.endswith(_SQL) and node.args and not isinstance(node.args[0], ast.Constant):
            self._note("SQL that is no constant", node)
        if called.endswith(".execute") and node.args and _is_made_text(node.args[0]):
            self._note("SQL that is no constant", node)
        self.generic_visit(node)

    def _judge_process(self, node: ast.Call, called: str) -> Iterator[str]:
        if any(word.arg == "shell" and not _is_false(word.value) for word in node.keywords):
            yield "shell"
        if called in _STARTERS or called.startswith(_STARTERS_OF_OS):
            yield "process"
            first = node.args[0] if node.args else None
            if isinstance(first, ast.List) and first.elts:
                first = first.elts[0]
            if isinstance(first, ast.JoinedStr) or (
                isinstance(first, ast.Constant) and first.value in _SHELLS
            ):
                yield "shell"

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        is_equality = any(isinstance(operator, ast.Eq | ast.NotEq | ast.In) for operator in node.ops)
        if is_equality and any(self._name_last(side) in _SECRET_NAMES for side in sides):
            self._note("comparison of a secret", node)
        self.generic_visit(node)

    def _name_last(self, node: ast.AST) -> str:
        return self._describe(node).rpartition(".")[2].lstrip("?")

    def _describe(self, node: ast.AST) -> str:
        """The full name of what is called; ``?`` stands before what was not imported."""
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id, f"?{node.id}")
        if isinstance(node, ast.Attribute):
            return f"{self._describe(node.value)}.{node.attr}"
        return ""


def _judge_http(node: ast.Call, called: str) -> Iterator[str]:
    words = {word.arg: word.value for word in node.keywords}
    if "verify" in words and _is_false(words["verify"]):
        yield "TLS unchecked"
    if called in _HTTP:
        yield "HTTP without our session"
    if called.endswith("http.request") and not (
        "allow_redirects" in words and _is_false(words["allow_redirects"])
    ):
        yield "redirects followed"


def _is_named(called: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return called.startswith(pattern[:-1])
    return called == pattern


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_made_text(node: ast.expr) -> bool:
    """A text that is put together: f"…", "…" % x, "…" + x, "…".format(x)."""
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(isinstance(part, ast.Constant | ast.JoinedStr) for part in ast.walk(node))
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"format", "join"}
    )
