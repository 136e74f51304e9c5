"""Migrations: up, down and up again on both databases, which end up with the same tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from subprocess import CalledProcessError
from typing import Any

import pytest
from sqlalchemy import Engine, Inspector, create_engine, inspect, text

from bytechat.models import User

from ..conftest import KINDS
from ..support.databases import ROOT, Databases, migrate

TABLES = {
    "users",
    "sessions",
    "revoked_tokens",
    "rooms",
    "members",
    "messages",
    "workers",
    "presences",
}
METADATA = User.metadata
VERSIONS = ROOT / "migrations" / "versions"

MakeEngine = Callable[[str], Engine]


@pytest.fixture
def connect() -> Iterator[MakeEngine]:
    """An engine of our own for a database's address."""
    engines: list[Engine] = []

    def make(url: str) -> Engine:
        engines.append(create_engine(url.replace("postgresql://", "postgresql+psycopg2://")))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_up_down_and_up_again(databases: Databases, kind: str, connect: MakeEngine) -> None:
    url = databases.fresh(kind)  # a copy of an empty one after `flask db upgrade`
    engine = connect(url)
    assert tables(engine) == TABLES | {"alembic_version"}
    migrate(url, "downgrade", "base")
    assert tables(engine) == {"alembic_version"}
    migrate(url, "upgrade")
    assert tables(engine) == TABLES | {"alembic_version"}
    with engine.connect() as connection:
        lobby = connection.execute(text("SELECT id, name, kind, topic, head FROM rooms")).one()
    assert tuple(lobby) == (1, "lobby", "public", "", 0)


def test_messages_are_kept_when_replies_go_and_come(
    databases: Databases, kind: str, connect: MakeEngine
) -> None:
    url = databases.fresh(kind)
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO users (id, username, display_name, created_at)"
                " VALUES (1, 'alice', 'alice', '2026-01-01')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO messages (id, room_id, seq, rev, user_id, kind, text, created_at,"
                " reply_to) VALUES (1, 1, 1, 1, 1, 'text', 'why?', '2026-01-01', NULL),"
                " (2, 1, 2, 2, 1, 'text', 'because', '2026-01-01', 1)"
            )
        )
    migrate(url, "downgrade", "0001")
    migrate(url, "upgrade")
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT id, text, reply_to FROM messages ORDER BY id"))
        assert [tuple(row) for row in kept] == [(1, "why?", None), (2, "because", None)]


def test_accounts_and_all_of_theirs_are_kept_when_ends_of_sessions_go_and_come(
    databases: Databases, kind: str, connect: MakeEngine
) -> None:
    url = databases.fresh(kind)
    engine = connect(url)
    day = "'2026-01-01'"
    user = "INSERT INTO users (id, username, display_name, created_at) VALUES"
    member = "INSERT INTO members (room_id, user_id, role, joined_at) VALUES"
    session = "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES"
    revoked = "INSERT INTO revoked_tokens (jti, revoked_at, expires_at) VALUES"
    with engine.begin() as connection:
        for statement in (
            f"{user} (1, 'alice', 'alice', {day})",
            f"{member} (1, 1, 'member', {day})",
            f"{session} (1, 1, {day}, {day})",
            f"{revoked} ('first', {day}, {day})",
            f"UPDATE users SET disabled_at = {day}",
            "UPDATE sessions SET jti = 'second'",
            "UPDATE revoked_tokens SET disabled = (1 = 1)",
        ):
            connection.execute(text(statement))
    migrate(url, "downgrade", "0002")
    migrate(url, "upgrade")
    with engine.begin() as connection:
        # As workers of the version before go on writing.
        connection.execute(text(f"{session} (2, 1, {day}, {day})"))
        connection.execute(text(f"{revoked} ('third', {day}, {day})"))
    found = {
        "SELECT username, disabled_at FROM users": [("alice", None)],
        "SELECT room_id, user_id FROM members": [(1, 1)],
        "SELECT id, jti FROM sessions ORDER BY id": [(1, None), (2, None)],
        "SELECT jti, disabled FROM revoked_tokens ORDER BY jti": [("first", 0), ("third", 0)],
    }
    with engine.connect() as connection:
        for question, rows in found.items():
            assert [tuple(row) for row in connection.execute(text(question))] == rows
        if kind == "sqlite":
            sql = "SELECT sql FROM sqlite_master WHERE name IN ('users', 'sessions')"
            assert all("AUTOINCREMENT" in made for made in connection.scalars(text(sql)))


def test_the_models_are_what_the_migrations_make(databases: Databases, kind: str) -> None:
    url = databases.fresh(kind)
    before = set(VERSIONS.glob("*.py"))
    done = migrate(url, "migrate", "-m", "nothing")
    made = set(VERSIONS.glob("*.py")) - before
    for path in made:
        path.unlink()
    assert not made, "the models have changed: write a migration"
    assert "nothing to migrate" in done.stderr


def test_a_migration_that_fails_half_way_leaves_nothing_behind(
    databases: Databases, kind: str, connect: MakeEngine
) -> None:
    url = databases.empty(kind)
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE messages (id INTEGER)"))  # in the migration's way
    with pytest.raises(CalledProcessError):
        migrate(url, "upgrade")
    assert tables(engine) - {"alembic_version"} == {"messages"}
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE messages"))
    migrate(url, "upgrade")
    assert tables(engine) == TABLES | {"alembic_version"}


def test_migrations_follow_one_another() -> None:
    revisions = {}
    for path in VERSIONS.glob("*.py"):
        names: dict[str, Any] = {}
        exec(compile(path.read_text(), path, "exec"), names)
        revisions[names["revision"]] = names["down_revision"]
    (first,) = (revision for revision, down in revisions.items() if down is None)
    chain = [first]
    while following := [revision for revision, down in revisions.items() if down == chain[-1]]:
        assert len(following) == 1, "two migrations follow the same one"
        chain += following
    assert set(chain) == set(revisions)


def test_both_databases_have_the_same_tables(databases: Databases, connect: MakeEngine) -> None:
    sqlite, other = (inspect(connect(databases.fresh(kind))) for kind in KINDS)
    assert set(sqlite.get_table_names()) == set(other.get_table_names())
    assert set(sqlite.get_table_names()) == {*METADATA.tables, "alembic_version"}
    for table in sqlite.get_table_names():
        assert shape(sqlite, table) == shape(other, table)


def test_the_database_has_the_constraints_of_the_models(
    databases: Databases, connect: MakeEngine
) -> None:
    """Which `flask db migrate` does not compare: ON DELETE, and the names of constraints."""
    inspector = inspect(connect(databases.fresh("postgresql")))
    for model in METADATA.sorted_tables:
        made = shape(inspector, model.name)
        assert made["columns"] == {
            column.name: bool(column.nullable) for column in model.columns.values()
        }
        assert made["primary key"] == [*model.primary_key.columns.keys()]
        assert made["foreign keys"] == sorted(
            (
                str(key.name),
                [*key.columns.keys()],
                key.referred_table.name,
                [element.column.name for element in key.elements],
                key.ondelete,
            )
            for key in model.foreign_key_constraints
        )
        assert made["indexes"] == sorted(
            (str(index.name), [column.name for column in index.columns], bool(index.unique))
            for index in model.indexes
        )


def test_postgresql_has_the_types_of_the_models(databases: Databases, connect: MakeEngine) -> None:
    engine = connect(databases.fresh("postgresql"))
    for model in METADATA.sorted_tables:
        made = {
            column["name"]: column["type"].compile(engine.dialect)
            for column in inspect(engine).get_columns(model.name)
        }
        assert made == {
            column.name: column.type.compile(engine.dialect) for column in model.columns
        }


def test_sqlite_never_gives_an_id_of_a_user_twice(
    databases: Databases, connect: MakeEngine
) -> None:
    with connect(databases.fresh("sqlite")).connect() as connection:
        sql = connection.scalars(text("SELECT sql FROM sqlite_master WHERE name = 'users'")).one()
    assert "AUTOINCREMENT" in sql


def shape(inspector: Inspector, table: str) -> dict[str, Any]:
    """What must be the same everywhere: all but the types, which the databases name differently."""
    return {
        "columns": {column["name"]: column["nullable"] for column in inspector.get_columns(table)},
        "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
        "uniques": sorted(
            (unique["name"], unique["column_names"])
            for unique in inspector.get_unique_constraints(table)
        ),
        "foreign keys": sorted(
            (
                foreign["name"],
                foreign["constrained_columns"],
                foreign["referred_table"],
                foreign["referred_columns"],
                foreign["options"].get("ondelete"),
            )
            for foreign in inspector.get_foreign_keys(table)
        ),
        "indexes": sorted(
            (index["name"], index["column_names"], bool(index["unique"]))
            for index in inspector.get_indexes(table)
            if "duplicates_constraint" not in index
        ),
    }
