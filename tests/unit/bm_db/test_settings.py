"""Settings that are refused before anything is connected (URLs, db.conf, sources); the error tree."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from bm_db import errors, open_billing, read_db_conf
from bm_db.engine import Database
from bm_db.sold_quota import QuotaSource, parse_quota_sources


def test_db_conf_is_read_to_the_end_of_each_line(tmp_path: Path) -> None:
    path = tmp_path / "db.conf"
    path.write_text(
        "DBHost localhost\r\nDBUser billmgr\nDBPassword  p@ss w/ord# \nDBName old\n"
        "DBName billmgr\nDBSocket \nDBType mysql\nalone\n",
        encoding="utf-8",
    )
    conf = read_db_conf(path)
    assert conf.database_url == "mysql+mysqldb://billmgr@localhost/billmgr"
    assert conf.password == " p@ss w/ord# "
    assert "ss w" not in repr(conf)


def test_db_conf_names_host_and_socket(tmp_path: Path) -> None:
    path = tmp_path / "db.conf"
    path.write_text("DBUser a b\nDBName billmgr\nDBSocket /run/mysqld/mysqld.sock", encoding="utf-8")
    conf = read_db_conf(path)
    assert (
        str(Database(conf.database_url, conf.password).address)
        == "billing database billmgr on /run/mysqld/mysqld.sock"
    )
    assert conf.password == ""
    path.write_text("DBHost db.example.net\nDBUser u\nDBName billmgr\n", encoding="utf-8")
    assert read_db_conf(path).database_url == "mysql+mysqldb://u@db.example.net/billmgr"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"DBUser u\n", "no line DBName"),
        (b"DBName n\n", "no line DBUser"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_unusable_db_conf_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "db.conf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.DbConfUnreadable, match=words) as caught:
        read_db_conf(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "billmgr",
        "oracle://u:Secret-1@h/d",
        "mysql+pymysql://u@h/d",
        "mysql://h",
        "sqlite://",
        "mysql://h:x/d",
    ],
)
def test_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(errors.DatabaseUrlInvalid, match="database_url") as caught:
        open_billing(url, password=None, private_key_pem=None)
    assert "Secret-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name", "address"),
    [
        ("mysql://u@h/billmgr", "mysql", "billing database billmgr on h"),
        ("mariadb://u@h:3307/billmgr", "mariadb", "billing database billmgr on h:3307"),
        ("mysql://u@h/billmgr?charset=utf8", "mysql", "billing database billmgr on h"),
        ("postgres://u@h/billmgr", "postgresql", "billing database billmgr on h"),
        ("postgresql+psycopg:///billmgr", "postgresql", "billing database billmgr on localhost"),
        ("sqlite:////srv/billing.db", "sqlite", "billing database /srv/billing.db"),
    ],
)
def test_drivers_are_chosen_by_us(url: str, name: str, address: str) -> None:
    billing = open_billing(url, password="Secret-1", private_key_pem=None, module="pmother")
    assert billing.database.dialect_name == name
    assert repr(billing) == f"Billing({address}, module='pmother')"
    assert "Secret-1" not in repr(billing.database.address)


def test_bad_key_and_bad_sources_are_refused_at_once() -> None:
    with pytest.raises(errors.PrivateKeyUnusable):
        open_billing("sqlite:///x", password=None, private_key_pem=b"")
    with pytest.raises(errors.QuotaSourceInvalid):
        open_billing("sqlite:///x", password=None, private_key_pem=None, quota_sources=["disk"])


def test_quota_sources_are_parsed() -> None:
    assert parse_quota_sources(["addon: Disk", "pricelistparam:quota_gb"]) == (
        QuotaSource("addon", "disk"),
        QuotaSource("pricelistparam", "quota_gb"),
    )


@pytest.mark.parametrize("sources", [[], ["disk"], ["addon:"], ["addon:disk", "item:quota"]])
def test_unknown_quota_source_is_named(sources: list[str]) -> None:
    with pytest.raises(errors.QuotaSourceInvalid, match="quota_sources"):
        parse_quota_sources(sources)


def test_error_tree_is_drawn_as_it_is() -> None:
    drawn = dict(re.findall(r"── (\w+)( +transient)?", errors.__doc__ or ""))
    real = {
        name: each.is_transient
        for name, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.BillingError) and each is not errors.BillingError
    }
    assert {name: bool(mark) for name, mark in drawn.items()} == real
