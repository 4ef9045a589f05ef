"""Answers that must not be believed: unreadable ones, redirects, strange certificates, repeated secrets."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path

import pytest
import trustme

from reconciler.sandbox.emulator import CloudEmulator, Fault
from tests.acceptance.conftest import MakeWorld
from tests.acceptance.evidence import (
    ADMIN_SECRET,
    SERVICE_SECRET,
    check_journal,
    check_words,
    invoke,
    make_clouds,
)


def test_single_answers_that_cannot_be_read_stop_that_server_s_services_only(make_world: MakeWorld) -> None:
    world = make_world(clouds=make_clouds("nextcloud", "nextcloud"))
    plan = world.billing.add_plan("Basic", 5)
    # More than can be under way at once when the fifth failure comes.
    items = [world.sell(plan, number % 2) for number in range(40)]
    bad, good = world.land.clouds
    bad.faults.append(
        Fault(lambda call: call.operation == "get" and call.userid != "admin", "html", times=None)
    )
    result = invoke(world.land.config_path, "once")
    check_words(result)
    assert result.returncode == 1
    assert "left out: server 1 (nextcloud-1): " in result.stdout, "five failures in a row stop the rest"
    assert all(world.is_delivered(item) for item in items[1::2])
    assert bad.mutating_calls() == [], "unknown is not absent"
    plan_result = invoke(world.land.config_path, "plan")
    check_words(plan_result)
    assert plan_result.returncode == 1
    assert set(good.accounts) == {"admin", *(f"user_{item}" for item in items[1::2])}


def test_a_redirect_to_another_host_is_refused_and_never_sees_a_password(make_world: MakeWorld) -> None:
    world = make_world(clouds=make_clouds())
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number) for number in (0, 1)]
    with CloudEmulator("nextcloud", admin_password=ADMIN_SECRET) as trap:
        target = f"{trap.base_url.replace('127.0.0.1', 'localhost')}/ocs/v2.php/cloud/user"
        world.nextcloud.faults.append(
            Fault("user", "status", status=302, headers=(("Location", target),), times=None)
        )
        result = invoke(world.land.config_path, "once")
        assert trap.calls == []
    check_words(result)
    assert result.returncode == 1
    assert re.search(
        r"left out: server 1 .* redirects to http://localhost:\d+.*: put this address", result.stdout
    )
    assert world.nextcloud.mutating_calls() == []
    assert world.is_delivered(items[1])


@pytest.mark.usefixtures("fault_row")
def test_a_certificate_of_an_unknown_authority_is_refused_and_accepted_with_its_ca_file(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    secured = CloudEmulator("owncloud", admin_password=ADMIN_SECRET, tls_context=context)
    world = make_world(clouds=[secured, *make_clouds("nextcloud")])
    plan = world.billing.add_plan("Basic", 5)
    items = [world.sell(plan, number) for number in (0, 1)]

    result = invoke(world.land.config_path, "once")
    check_words(result)
    assert result.returncode == 1
    assert re.search(r"left out: server 1 .*TLS connection .* refused .*ca_file", result.stdout)
    assert secured.calls == [], "nothing was sent"
    assert world.is_delivered(items[1])
    check = invoke(world.land.config_path, "check-connection", "1", "--json")
    assert json.loads(check.stdout)[0]["cause"] == "TLS"

    world.land.configure({"nextcloud.server.1": {"ca_file": str(tmp_path / "ca.pem")}})
    invoke(world.land.config_path, "check-connection", "1")
    result = invoke(world.land.config_path, "once")
    assert result.returncode == 0, result.stdout + result.stderr
    assert secured.accounts[f"user_{items[0]}"].quota_definition == "5 GB"


def test_what_a_server_repeats_of_a_password_is_kept_from_every_eye(make_world: MakeWorld) -> None:
    world = make_world(clouds=make_clouds())
    plan = world.billing.add_plan("Basic", 5)
    items = [
        world.sell(plan, number, username=f"user_{number}", userpassword=SERVICE_SECRET) for number in (0, 1)
    ]
    for cloud in world.land.clouds:
        echo = f"{SERVICE_SECRET} is weak, said {ADMIN_SECRET}"
        envelope = {"ocs": {"meta": {"status": "failure", "statuscode": 107, "message": echo}, "data": []}}
        fault = Fault(
            "create", "status", status=400, body=json.dumps(envelope), content_type="application/json"
        )
        html = Fault("create", "status", status=500, body=f"<h1>{echo}</h1>", times=None)
        cloud.faults += [fault, html]
    for arguments in (["once"], ["status"], *(["history", str(item)] for item in items)):
        result = invoke(world.land.config_path, *arguments)
        assert "is weak" in check_words(result), "the server's words are told, the secrets in them are not"
    check_journal(world.land.folder)
