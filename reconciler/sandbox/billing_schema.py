"""The tables of a BILLmanager database, for the demo and the tests: both schemas, on every database.

``live`` is what a running BILLmanager has (booleans as 'on'/'off', add-on lines with limits, a table for
encrypted service values); ``spec`` is what the specification describes. Called by
`reconciler.sandbox.billing_data` and by the tests' fixtures. Only what the reconciler touches and what shows
that it copes with the rest is here.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
)

Variant = Literal["live", "spec"]
MEASURES: Final = (("byte", 1), ("kib", 1024), ("mib", 1024), ("gib", 1024), ("tib", 1024))
"""intname and how many of the one before it, smallest first."""


def create_schema(engine: Engine, variant: Variant = "live") -> MetaData:
    """Create all tables in an empty database and return their description.

    A SQLite file is switched to write-ahead logging, so that reading a long list never blocks a writer.
    """
    metadata = describe_schema(variant)
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL").close()
        finally:
            raw.close()
    metadata.create_all(engine)
    return metadata


def describe_schema(variant: Variant) -> MetaData:
    """The tables of one variant, as SQLAlchemy describes them."""
    metadata = MetaData()
    _describe_people(metadata, variant)
    _describe_tariffs(metadata, variant)
    _describe_servers(metadata, variant)
    _describe_services(metadata, variant)
    return metadata


def _id() -> Column[Any]:
    return Column("id", Integer, primary_key=True)


def _key(name: str, target: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, Integer, ForeignKey(f"{target}.id"), nullable=nullable, index=True)


def _flag(name: str, variant: Variant) -> Column[Any]:
    return Column(name, String(3) if variant == "live" else Boolean)


def _describe_people(metadata: MetaData, variant: Variant) -> None:
    Table(
        "account",
        metadata,
        _id(),
        Column("name", String(255)),
        Column("parent", Integer),
        Column("level", Integer),
        Column("registration_date", Date),
        Column("country", Integer),
    )
    live = [Column("realname", String(255)), Column("language", String(8))] if variant == "live" else []
    Table(
        "user",
        metadata,
        _id(),
        _key("account", "account"),
        Column("name", String(255)),
        Column("password", String(255)),
        Column("email", String(1024)),
        Column("level", Integer),
        _flag("enabled", variant),
        Column("phone", String(64)),
        *live,
    )
    Table(
        "subaccount",
        metadata,
        _id(),
        _key("account", "account"),
        Column("project", Integer),
        Column("balance", Numeric(17, 4)),
        _flag("active", variant),
        Column("currency", Integer),
    )


def _describe_tariffs(metadata: MetaData, variant: Variant) -> None:
    Table(
        "itemtype",
        metadata,
        _id(),
        Column("name", String(255)),
        Column("intname", String(64)),
        _flag("embedded", variant),
    )
    Table(
        "itemtypeparam",
        metadata,
        _id(),
        _key("itemtype", "itemtype"),
        Column("intname", String(64)),
        Column("name", String(255)),
        Column("inputtype", String(32)),
    )
    Table(
        "measure",
        metadata,
        _id(),
        Column("intname", String(64)),
        Column("lessmeasure", Integer, ForeignKey("measure.id")),
        Column("relation", Integer),
    )
    live: list[Column[Any]] = []
    if variant == "live":
        live = [
            Column("addontype", Integer),
            Column("billtype", Integer),
            _key("measure", "measure"),
            *(Column(name, Integer) for name in ("addonlimit", "addonmax")),
            Column("addonbool", String(3)),
            *(Column(name, Integer) for name in ("addonmaxtrial", "enumerationitem", "compound", "project")),
        ]
    Table(
        "pricelist",
        metadata,
        _id(),
        _key("itemtype", "itemtype"),
        Column("name", String(255)),
        Column("intname", String(64)),
        _flag("active", variant),
        _key("parent", "pricelist"),
        *live,
    )
    Table(
        "pricelistparam",
        metadata,
        _id(),
        _key("pricelist", "pricelist", nullable=False),
        Column("intname", String(64), nullable=False),
        Column("value", Text),
    )


def _describe_servers(metadata: MetaData, variant: Variant) -> None:
    extra = Column("orderpriority", Integer) if variant == "live" else Column("config", Text)
    Table(
        "processingmodule",
        metadata,
        _id(),
        Column("name", String(255)),
        Column("module", String(64)),
        _flag("active", variant),
        Column("laststatdate", Date),
        extra,
    )
    crypted = "processingcryptedparam" if variant == "live" else "processingcryptparam"
    for name in ("processingparam", crypted):
        Table(
            name,
            metadata,
            _id(),
            _key("processingmodule", "processingmodule", nullable=False),
            Column("intname", String(64), nullable=False),
            Column("value", Text),
        )


def _describe_services(metadata: MetaData, variant: Variant) -> None:
    live: list[Column[Any]] = []
    if variant == "live":
        live = [
            *(Column(name, Integer) for name in ("lastpricelist", "remoteid", "period", "intvalue")),
            Column("boolvalue", String(3)),
            *(
                Column(name, Integer)
                for name in ("addonlimit", "addonmax", "addonmaxtrial", "enumerationitem")
            ),
            Column("employeesuspend", String(3)),
            Column("abusesuspend", String(3)),
        ]
    Table(
        "item",
        metadata,
        _id(),
        _key("pricelist", "pricelist"),
        _key("account", "account"),
        _key("processingmodule", "processingmodule"),
        Column("status", Integer),
        *(Column(name, Date) for name in ("createdate", "opendate", "expiredate", "suspenddate")),
        Column("name", String(255)),
        Column("note", Text),
        _flag("autosuspend", variant),
        _key("parent", "item"),
        *live,
    )
    for name in ("itemparam", "itemcryptedparam") if variant == "live" else ("itemparam",):
        Table(
            name,
            metadata,
            _id(),
            _key("item", "item", nullable=False),
            Column("intname", String(64), nullable=False),
            Column("value", Text().with_variant(_long_text(), "mysql", "mariadb")),
        )
    if variant == "live":
        Table(
            "runningoperation",
            metadata,
            _id(),
            _key("item", "item"),
            Column("intname", String(64)),
            Column("trycount", Integer),
            Column("createdate", DateTime),
            Column("errorxml", Text),
        )
    Table(
        "itemstat",
        metadata,
        _id(),
        Column("item", Integer, ForeignKey("item.id"), nullable=False),
        Column("statdate", Date, nullable=False),
        Column("param", String(64), nullable=False),
        Column("value", BigInteger),
        Column("measure", Integer, ForeignKey("measure.id")),
        UniqueConstraint("item", "statdate", "param"),
    )
    Index("item_by_server", metadata.tables["item"].c.processingmodule, metadata.tables["item"].c.id)


def _long_text() -> Any:
    from sqlalchemy.dialects.mysql import MEDIUMTEXT

    return MEDIUMTEXT()
