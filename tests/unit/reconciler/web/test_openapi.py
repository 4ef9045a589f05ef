"""The OpenAPI document is what is served: by name, by shape, and by whatever schemathesis thinks of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.journal import Answer
from reconciler.web.app import create_app
from reconciler.web.openapi import describe_api
from reconciler.web.schemas import describe_type
from tests.unit.reconciler.web.site import TOKEN, OpenSite, Site, answering

SERVED = re.compile(r"Tested: (\d+)")


@dataclass(frozen=True)
class Sample:
    shown: int
    hidden: str = field(repr=False)


def test_every_endpoint_is_described_and_every_description_is_served(shared_site: Site) -> None:
    app = create_app(shared_site, token=TOKEN, is_loopback=True, stopping=threading.Event())
    served = {
        (rule.rule.replace("<", "{").replace(">", "}"), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    paths = shared_site.get("/api/v1/openapi.json").json["paths"]
    assert served == {(path, method.upper()) for path, methods in paths.items() for method in methods}


def test_the_document_says_when_the_token_is_needed(open_site: OpenSite) -> None:
    for is_loopback in (True, False):
        document = describe_api(is_loopback=is_loopback)
        for operations in document["paths"].values():
            for method, operation in operations.items():
                is_open = is_loopback and method == "get"
                assert ({} in operation["security"]) == is_open
    assert open_site(is_loopback=False).get("/api/v1/openapi.json", token=TOKEN).json == describe_api(
        is_loopback=False
    )


def test_secrets_have_no_place_in_a_schema() -> None:
    named: dict[str, Any] = {}
    describe_type(Sample, named)
    assert named["Sample"]["required"] == ["shown"]
    assert list(named["Sample"]["properties"]) == ["shown"]


def test_a_type_that_json_has_not_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes"):
        describe_type(bytes, {})


@pytest.mark.parametrize(
    ("is_loopback", "phases", "examples"),
    [(True, "examples,coverage,fuzzing", 15), (False, "examples,fuzzing", 5)],
)
def test_every_answer_is_as_described(
    open_site: OpenSite, tmp_path: Path, *, is_loopback: bool, phases: str, examples: int
) -> None:
    """Schemathesis asks by the document, rightly and wrongly, with all of its checks; a daemon answers."""
    site = open_site(is_loopback=is_loopback)
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(site.get("/api/v1/openapi.json", token=TOKEN).json))
    with answering(site, Answer("active", "as sold", ("set_quota",))) as answered:
        result = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "run", str(document)),
                *("--url", f"http://127.0.0.1:{site.server.port}"),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--checks", "all", "--phases", phases, "--max-examples", str(examples)),
                *("--generation-deterministic", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert result.returncode == 0, result.stdout + result.stderr
    operations = sum(len(methods) for methods in json.loads(document.read_text())["paths"].values())
    assert SERVED.findall(result.stdout) == [str(operations)]
    # It did not only knock at closed doors.
    assert answered
    assert {"hold", "release"} <= {action for _, action, _ in site.list_history(1)}
