"""Alerts, dashboard and Zabbix template: held to the daemon's metrics, and tried with the real promtool.

`METRICS` is the one list of them: whatever those files read must be in it, with its labels and their values.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal, cast

import click
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from nc import OPERATIONS
from reconciler.cli import COMMANDS
from reconciler.cli_operator import approve
from reconciler.fleet import CloudServer
from reconciler.guards import Guard, ReadVerdict
from reconciler.metrics import Metrics, Snapshot
from reconciler.workqueue import Priority
from states import ServiceState, StepKind

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "deploy/prometheus/alerts.yml"
ALERT_TESTS: Final = ROOT / "deploy/prometheus/alerts_test.yml"
PROMETHEUS: Final = ROOT / "deploy/prometheus/prometheus.example.yml"
DASHBOARD: Final = ROOT / "deploy/grafana/dashboard.json"
ZABBIX: Final = ROOT / "deploy/zabbix/template.yaml"
PAGE: Final = ROOT / "docs/monitoring.md"


# --- the metrics -----------------------------------------------------------------------------------

Values = tuple[str, ...] | None
"""Every value a label can have; None: they are not known beforehand."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its kind, and its labels with their values."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: Mapping[str, Values] = field(default_factory=dict)


_SERVER: Final[dict[str, Values]] = {"server": None}
_OPERATION: Final[dict[str, Values]] = {**_SERVER, "operation": OPERATIONS}
_PRIORITY: Final[dict[str, Values]] = {"priority": ("command", "change", "drift", "deletion")}
_GUARD: Final[dict[str, Values]] = {"guard": tuple(guard.value for guard in Guard)}
_CAUSES: Final = (
    *("unconfigured", "inactive", "identity", "credentials"),
    *("address", "maintenance", "rate_limit", "transport"),
)
_STATES: Final = tuple(state.value for state in ServiceState)
_ACTIONS: Final = tuple(kind.value for kind in StepKind if kind.is_mutating)

METRICS: Final[dict[str, Metric]] = {
    "reconciler_reconcile_total": Metric(
        "counter", {**_SERVER, "result": ("ok", "blocked", "backoff", "quarantined", "busy", "error")}
    ),
    "reconciler_reconcile_duration_seconds": Metric("histogram", _SERVER),
    "reconciler_services": Metric("gauge", {**_SERVER, "state": _STATES}),
    "reconciler_drifted_services": Metric(
        "gauge", {**_SERVER, "field": ("existence", "enabled", "quota", "group", "email")}
    ),
    "reconciler_oldest_unconverged_seconds": Metric("gauge", _SERVER),
    "reconciler_convergence_duration_seconds": Metric(
        "histogram", {"kind": ("provisioning", "drifted", "suspending", "resuming", "deleting")}
    ),
    "reconciler_mutations_total": Metric("counter", {**_SERVER, "action": _ACTIONS}),
    "reconciler_api_requests_total": Metric("counter", {**_OPERATION, "code": None}),
    "reconciler_api_request_duration_seconds": Metric("histogram", _OPERATION),
    "reconciler_api_ambiguous_results_total": Metric("counter", _OPERATION),
    "reconciler_workqueue_depth": Metric("gauge", _PRIORITY),
    "reconciler_workqueue_queue_duration_seconds": Metric("histogram", _PRIORITY),
    "reconciler_guard_active": Metric("gauge", {**_GUARD, **_SERVER}),
    "reconciler_guard_trips_total": Metric("counter", _GUARD),
    "reconciler_server_breaker_open": Metric("gauge", {**_SERVER, "cause": _CAUSES}),
    "reconciler_desired_services": Metric("gauge", _SERVER),
    "reconciler_desired_snapshot_timestamp_seconds": Metric("gauge"),
    "reconciler_last_scan_timestamp_seconds": Metric("gauge", _SERVER),
    "reconciler_scan_rest_seconds": Metric("gauge", _SERVER),
    "reconciler_orphans": Metric("gauge", _SERVER),
    "reconciler_held_services": Metric("gauge"),
    "reconciler_quota_bytes": Metric("gauge", _SERVER),
    "reconciler_used_bytes": Metric("gauge", _SERVER),
    "reconciler_services_near_quota": Metric("gauge", {**_SERVER, "threshold": ("80", "100")}),
    "reconciler_server_info": Metric("gauge", {**_SERVER, "name": None, "product": None, "version": None}),
    "reconciler_build_info": Metric("gauge", {"version": None, "python": None}),
    # Those of prometheus_client.ProcessCollector.
    "process_virtual_memory_bytes": Metric("gauge"),
    "process_resident_memory_bytes": Metric("gauge"),
    "process_start_time_seconds": Metric("gauge"),
    "process_cpu_seconds_total": Metric("counter"),
    "process_open_fds": Metric("gauge"),
    "process_max_fds": Metric("gauge"),
}

TARGET_LABELS: Final[dict[str, Values]] = {"job": ("bill-nextcloud",), "instance": None}
"""What Prometheus adds to everything it scrapes."""

_EXAMPLES: Final = {
    "server": ("3", "all"),
    "code": ("100", "200", "none", "500"),
    "instance": ("localhost:9645",),
}
"""Values for labels whose values are not known beforehand."""


def _list_series() -> dict[str, dict[str, Values]]:
    """The names of all series, with their labels."""
    series: dict[str, dict[str, Values]] = {"up": {}}
    for name, metric in METRICS.items():
        if metric.kind == "histogram":
            series[f"{name}_bucket"] = {**metric.labels, "le": None}
            series[f"{name}_sum"] = series[f"{name}_count"] = dict(metric.labels)
        else:
            series[name] = dict(metric.labels)
    return series


SERIES: Final = _list_series()


def scrape() -> str:
    """What a daemon with one server tells at its first scrape."""
    server = cast(CloudServer, SimpleNamespace(id=3, name='cloud "A"', stop_cause=None))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    snapshot = Snapshot(
        [server], {}, {}, {}, {}, ReadVerdict(0, 0, is_suspicious=False), {}, 0, {3: 1.5}, now
    )
    metrics = Metrics(lambda: snapshot, lambda: dict.fromkeys(Priority, 0))
    metrics.know_servers([server])
    return metrics.render().decode()


def test_the_daemon_tells_these_metrics_and_no_others() -> None:
    told = {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in text_string_to_metric_families(scrape())
        # When a series began is told beside it, for whoever wants it.
        if not family.name.endswith("_created")
    }
    assert {name: family.type for name, family in told.items()} == {
        name: metric.kind for name, metric in METRICS.items()
    }
    for name, metric in METRICS.items():
        samples = told[name].samples
        assert samples, name
        for sample in samples:
            assert set(sample.labels) == set(SERIES[sample.name]), name
        for label, values in metric.labels.items():
            seen = {sample.labels[label] for sample in samples}
            # Only steps that are calls to change an account can end ambiguously.
            is_partial = name == "reconciler_api_ambiguous_results_total" and label == "operation"
            assert values is None or (seen <= set(values) if is_partial else seen == set(values)), name


# --- what an expression reads ----------------------------------------------------------------------

_NAME: Final = r"\b(?:reconciler_\w+|process_\w+|up)\b"
_SELECTOR: Final = re.compile(rf'({_NAME})(?:\{{((?:[^"}}]|"[^"]*")*)\}})?')
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING: Final = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric in an expression, with its matchers (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def find_selectors(expression: str) -> list[Selector]:
    return [
        Selector(name, tuple(_MATCHER.findall(matchers))) for name, matchers in _SELECTOR.findall(expression)
    ]


def find_faults(expression: str, *shown: str) -> Iterator[str]:
    """What an expression, or what is shown of its result (label names), has that no metric has."""
    selectors = find_selectors(expression)
    if not selectors:
        yield f"reads no metric: {expression}"
    known: dict[str, Values] = dict(TARGET_LABELS)
    for selector in selectors:
        if selector.name not in SERIES:
            yield f"unknown metric {selector.name}"
            continue
        labels = {**TARGET_LABELS, **SERIES[selector.name]}
        known |= labels
        for label, operator, value in selector.matchers:
            if label not in labels:
                yield f"{selector.name} has no label {label}"
            else:
                yield from _find_wrong_values(f"{selector.name}, {label}", labels[label], operator, value)
    grouped = [label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")]
    yield from (
        f"no metric of it has the label {label}: {expression}"
        for label in (*grouped, *shown)
        if label not in known
    )


def _find_wrong_values(where: str, values: Values, operator: str, text: str) -> Iterator[str]:
    if values is None or "$" in text or "{#" in text:
        return
    parts = text.removeprefix("^(").removesuffix(")$").split("|") if "~" in operator else [text]
    for part in parts:
        if not any(re.fullmatch(part, value) if "~" in operator else part == value for value in values):
            yield f"{where}: no value is {part}"


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("reconciler_drift > 1", "unknown metric reconciler_drift"),
        ('reconciler_services{status="backoff"}', "reconciler_services has no label status"),
        ('reconciler_services{state=~"active|gone"}', "reconciler_services, state: no value is gone"),
        ("sum by (server, field) (reconciler_services)", "no metric of it has the label field"),
        ("reconciler_reconcile_duration_seconds", "unknown metric reconciler_reconcile_duration_seconds"),
        ('reconciler_orphans{le="1"}', "reconciler_orphans has no label le"),
        ("vector(1)", "reads no metric"),
    ],
)
def test_what_no_metric_has_is_found_in_an_expression(expression: str, fault: str) -> None:
    (found,) = find_faults(expression)
    assert fault in found


# --- promtool --------------------------------------------------------------------------------------


def promtool(*arguments: str | Path) -> str:
    """Run promtool, and give what it says; it must be content."""
    program = shutil.which("promtool")
    assert program, "promtool is not there: run scripts/setup test (Debian package prometheus)"
    answer = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def make_series(steps: int) -> list[dict[str, str]]:
    """Every series of the daemon that can be, growing from 1, as promtool's tests take them."""
    made = []
    for name, labels in SERIES.items():
        wanted = {**TARGET_LABELS, **labels}
        buckets = {"le": ("0.1", "10", "+Inf")} if "le" in wanted else {}
        options = [
            [(label, value) for value in buckets.get(label) or values or _EXAMPLES.get(label, ("x",))]
            for label, values in wanted.items()
        ]
        for chosen in itertools.product(*options):
            text = ", ".join(f'{label}="{value}"' for label, value in chosen)
            made.append({"series": f"{name}{{{text}}}", "values": f"1+1x{steps}"})
    return made


# --- alerts ----------------------------------------------------------------------------------------


def list_alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_accepts_the_alerts() -> None:
    assert f"SUCCESS: {len(list_alerts())} rules found" in promtool("check", "rules", ALERTS)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", ALERT_TESTS)


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load(ALERT_TESTS.read_text("utf-8"))["tests"]
    labels = [
        sample["labels"]
        for case in cases
        for check in case.get("promql_expr_test", ())
        for sample in check["exp_samples"]
    ]
    fired = {name for text in labels for name in re.findall(r'alertname="(\w+)"', text)}
    assert fired == {alert["alert"] for alert in list_alerts()}


def test_promtool_accepts_the_example_of_a_configuration(tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS, tmp_path / "prometheus.yml")
    configuration = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    for name in configuration["rule_files"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ALERTS, tmp_path / name)
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")
    assert [job["job_name"] for job in configuration["scrape_configs"]] == list(TARGET_LABELS["job"] or ())


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda alert: alert["alert"])
def test_alert_reads_what_the_daemon_has_and_says_what_to_do(alert: dict[str, Any]) -> None:
    texts = alert["annotations"]
    shown = [label for text in texts.values() for label in re.findall(r"\$labels\.(\w+)", text)]
    assert list(find_faults(alert["expr"], *shown)) == []
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(texts) == {"summary", "description", "runbook"}
    assert texts["runbook"] == f"docs/monitoring.md#{alert['alert'].lower()}"
    commands = find_commands(texts["description"])
    assert commands
    assert commands <= set(COMMANDS)


def find_commands(text: str) -> set[str]:
    """The commands of `reconciler` that a text names."""
    return set(re.findall(r"`reconciler\s+([\w-]+)", text))


def test_the_guards_that_an_alert_has_approved_can_be() -> None:
    (alert,) = (alert for alert in list_alerts() if alert["alert"] == "ReconcilerGuardActive")
    (guards,) = re.findall(r'guard=~"([^"]+)"', alert["expr"])
    (known,) = (one.type for one in approve.params if isinstance(one.type, click.Choice))
    assert {guard.replace("_", "-") for guard in guards.split("|")} <= set(known.choices)


# --- the page --------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_each_alert_and_no_other() -> None:
    sections = re.findall(r"^### (Reconciler\w+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sections == [alert["alert"] for alert in list_alerts()]


def test_the_page_tells_each_metric_with_its_kind_and_labels() -> None:
    rows = re.findall(r"^\| `(\w+?)(?:\{([\w,]+)\})?` \| (\w+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    told = {f"reconciler_{name}": (kind, set(filter(None, labels.split(",")))) for name, labels, kind in rows}
    own = {name: metric for name, metric in METRICS.items() if name.startswith("reconciler_")}
    assert told == {name: (metric.kind, set(metric.labels)) for name, metric in own.items()}


def test_the_page_names_no_metric_command_or_file_that_is_not_there() -> None:
    text = PAGE.read_text("utf-8")
    assert {name for name in re.findall(r"\breconciler_\w+", text) if name not in SERIES | METRICS} == set()
    assert find_commands(text) <= set(COMMANDS)
    files = re.findall(r"\]\(\.\./([^)#]+)\)", text)
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


# --- Grafana ---------------------------------------------------------------------------------------


@functools.cache
def load_dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return dashboard


def list_panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = load_dashboard()["panels"]
    return panels


def list_queries() -> list[tuple[str, str, str]]:
    """Title, expression and legend of every query."""
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in list_panels()
        for target in panel.get("targets", ())
    ]


def test_dashboard_numbers_its_panels_and_none_hides_another() -> None:
    panels = list_panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))


def test_dashboard_asks_the_chosen_source_of_data_only() -> None:
    dashboard = load_dashboard()
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    asking = [panel for panel in list_panels() if panel["type"] != "row"]
    asking += [target for panel in asking for target in panel["targets"]]
    asking += [variable for variable in variables.values() if variable["type"] == "query"]
    asking += [one for one in dashboard["annotations"]["list"] if "builtIn" not in one]
    assert {json.dumps(one["datasource"], sort_keys=True) for one in asking} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }
    used = set(re.findall(r"\$\{?(?!__)([a-z]+)", json.dumps(dashboard)))
    assert used == set(variables)


def test_dashboard_reads_what_the_daemon_has() -> None:
    faults = [
        f"{title}: {fault}"
        for title, expression, legend in list_queries()
        for fault in find_faults(expression, *re.findall(r"\{\{(\w+)\}\}", legend))
    ]
    for variable in load_dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked
            assert variable["definition"] == asked[0]
            faults += find_faults(asked[1], asked[2])
    for annotation in load_dashboard()["annotations"]["list"]:
        if "builtIn" not in annotation:
            faults += find_faults(annotation["expr"], annotation["tagKeys"])
    assert faults == []


def test_dashboard_shows_everything_that_the_daemon_tells() -> None:
    shown = {selector.name for _, expression, _ in list_queries() for selector in find_selectors(expression)}
    bases = {re.sub(r"_bucket$", "", name) for name in shown}
    own = {name for name in METRICS if name.startswith("reconciler_")}
    assert own - bases == set()


def test_dashboard_shows_something_in_every_panel(tmp_path: Path) -> None:
    """Asked of promtool's own Prometheus, with every series that there can be."""
    values = {"$__rate_interval": "5m", "$instance": "localhost:9645", "$server": ".*"}
    checks = []
    for _, expression, _ in list_queries():
        filled = functools.reduce(lambda text, pair: text.replace(*pair), values.items(), expression)
        sample = {"labels": "{}", "value": 1}
        checks.append({"expr": f"count({filled}) > bool 0", "eval_time": "2h", "exp_samples": [sample]})
    case = {"interval": "1m", "input_series": make_series(120), "promql_expr_test": checks}
    path = tmp_path / "dashboard_test.yml"
    path.write_text(json.dumps({"evaluation_interval": "1h", "tests": [case]}))
    assert "SUCCESS" in promtool("test", "rules", path)


# --- Zabbix ----------------------------------------------------------------------------------------


@functools.cache
def load_template() -> dict[str, Any]:
    export: dict[str, Any] = yaml.safe_load(ZABBIX.read_text("utf-8"))["zabbix_export"]
    return export


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Every mapping in a document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def get_rule() -> dict[str, Any]:
    (template,) = load_template()["templates"]
    (rule,) = template["discovery_rules"]
    found: dict[str, Any] = rule
    return found


def list_items() -> list[dict[str, Any]]:
    """Items, item prototypes and the discovery rule."""
    (template,) = load_template()["templates"]
    return [*template["items"], *get_rule()["item_prototypes"], get_rule()]


def list_triggers() -> list[dict[str, Any]]:
    """All triggers and trigger prototypes; an export has those of several items apart from the items."""
    nodes = [
        node.get(name, []) for node in walk(load_template()) for name in ("triggers", "trigger_prototypes")
    ]
    return [trigger for triggers in nodes for trigger in triggers]


def list_patterns() -> list[tuple[dict[str, Any], list[str]]]:
    """Every step that reads a metric, with its item."""
    return [
        (item, step["parameters"])
        for item in list_items()
        for step in item.get("preprocessing", ())
        if step["type"].startswith("PROMETHEUS")
    ]


def test_zabbix_template_is_an_export_that_zabbix_6_and_later_take() -> None:
    assert load_template()["version"] == "6.0"
    ids = [node["uuid"] for node in walk(load_template()) if "uuid" in node]
    # Zabbix takes random (version 4) UUIDs only, without dashes.
    assert [one for one in ids if not re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", one)] == []
    assert len(set(ids)) == len(ids)
    keys = [item["key"] for item in list_items()]
    assert len(set(keys)) == len(keys)


def test_zabbix_asks_the_daemon_once_for_everything() -> None:
    by_type: dict[str, list[dict[str, Any]]] = {}
    for item in list_items():
        by_type.setdefault(item["type"], []).append(item)
    assert set(by_type) == {"HTTP_AGENT", "DEPENDENT", "CALCULATED"}
    (master,) = by_type["HTTP_AGENT"]
    assert master["url"] == "{$RECONCILER.URL}"
    assert master["headers"] == [{"name": "Authorization", "value": "Bearer {$RECONCILER.TOKEN}"}]
    assert {item["master_item"]["key"] for item in by_type["DEPENDENT"]} == {master["key"]}


def test_zabbix_macros_are_declared_and_the_token_is_secret() -> None:
    (template,) = load_template()["templates"]
    macros = {macro["macro"]: macro for macro in template["macros"]}
    text = json.dumps({**load_template(), "templates": [{**template, "macros": [], "description": ""}]})
    assert set(re.findall(r"\{\$[A-Z.]+\}", text)) == set(macros)
    assert macros["{$RECONCILER.TOKEN}"]["type"] == "SECRET_TEXT"
    assert "value" not in macros["{$RECONCILER.TOKEN}"]


def test_zabbix_reads_what_the_daemon_has() -> None:
    faults = [
        f"{item['key']}: {fault}"
        for item, parameters in list_patterns()
        for fault in find_faults(parameters[0])
    ]
    assert faults == []
    dependent = [item["key"] for item in list_items() if item["type"] == "DEPENDENT"]
    assert dependent == [item["key"] for item, _ in list_patterns()]


def test_zabbix_pattern_of_a_single_value_matches_one_series_only() -> None:
    """Zabbix makes an item unsupported whose pattern matches several series and names no function."""
    loose = []
    for item, (pattern, *rest) in list_patterns():
        (selector,) = find_selectors(pattern)
        # A server is stopped for one cause at a time; there is one version of the program.
        is_single = pattern.endswith("} == 1") or selector.name == "reconciler_build_info"
        if not rest or rest[0] == "function" or is_single:
            continue
        pinned = {label for label, operator, _ in selector.matchers if operator == "="}
        if set(SERIES[selector.name]) - pinned:
            loose.append(item["key"])
    assert loose == []


def test_zabbix_regular_expressions_match_whole_values() -> None:
    """Zabbix looks for them anywhere in a value; Prometheus would not."""
    texts = [
        text
        for _, parameters in list_patterns()
        for selector in find_selectors(parameters[0])
        for _, operator, text in selector.matchers
        if operator == "=~"
    ]
    assert texts
    assert [text for text in texts if not re.fullmatch(r"\^\(.+\)\$|\.\+", text)] == []


def test_zabbix_discovers_the_servers_by_their_labels() -> None:
    rule = get_rule()
    paths = {path["lld_macro"]: path["path"].removeprefix("$.labels.") for path in rule["lld_macro_paths"]}
    (parameters,) = (parameters for item, parameters in list_patterns() if item is rule)
    assert set(paths.values()) <= set(METRICS[parameters[0]].labels)
    assert set(re.findall(r"\{#\w+\}", json.dumps(rule["item_prototypes"]))) == set(paths)
    assert [item["key"] for item in rule["item_prototypes"] if "{#SERVER}" not in item["key"]] == []


def test_zabbix_triggers_read_items_of_the_template_and_lead_to_the_page() -> None:
    (template,) = load_template()["templates"]
    keys = {item["key"] for item in list_items()}
    triggers = list_triggers()
    by_name = {trigger["name"]: trigger["expression"] for trigger in triggers}
    assert len(by_name) == len(triggers)
    formulas = [item["params"] for item in list_items() if item["type"] == "CALCULATED"]
    expressions = [
        *by_name.values(),
        *(formula.replace("//", f"/{template['template']}/") for formula in formulas),
    ]
    for expression in expressions:
        read = re.findall(rf"/{template['template']}/([^\s\[,)]+(?:\[[^\]]*\])?)", expression)
        assert read
        assert set(read) <= keys
    for trigger in triggers:
        for one in trigger.get("dependencies", ()):
            assert by_name[one["name"]] == one["expression"]
        assert find_commands(trigger["description"]) <= set(COMMANDS)
    led = [re.findall(r"See (\w+) in docs/monitoring\.md\.$", trigger["description"]) for trigger in triggers]
    assert sorted(name for names in led for name in names) == sorted(
        alert["alert"] for alert in list_alerts()
    )
