"""Settings: read from the environment, checked, and a bad one stops the start with one line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from urllib.parse import unquote

import msgspec
import pytest
from sqlalchemy.engine import make_url

from bytechat import config, create_app
from bytechat.api import BIGINT_MAX
from bytechat.auth.names import USERNAME_MAX
from bytechat.auth.schemas import Account
from bytechat.chat import frames, messages
from bytechat.chat.schemas import CHANGES_MAX, CLIENT_ID_MAX, Message
from bytechat.config import SECRET_BYTES, SettingError, Settings, describe
from bytechat.realtime.connection import CHUNK_COST

from ..support.databases import ROOT, SECRET

POSTGRESQL = "postgresql://alice:secret@localhost/bytechat"

FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Settings)}

GOOD = {
    "DATABASE_URL": (POSTGRESQL, POSTGRESQL),
    "HOST": ("127.0.0.1", "127.0.0.1"),
    "PORT": ("80", 80),
    "WEB_CONCURRENCY": ("4", 4),
    "WORKER_CONNECTIONS": ("500", 500),
    "JWT_SECRET_KEY": (SECRET, SECRET),
    "TOKEN_HOURS": ("0.5", 0.5),
    "PASSWORD_MIN": ("8", 8),
    "BCRYPT_ROUNDS": ("13", 13),
    "REGISTRATION": ("0", False),
    "GUESTS": ("1", True),
    "ALLOWED_ORIGINS": ("https://a.example", "https://a.example"),
    "TRUSTED_PROXIES": ("2", 2),
    "TEXT_MAX": ("0", 0),
    "FRAME_MAX": ("1000", 1000),
    "BODY_MAX": ("2000", 2000),
    "OUTBOX_MAX": ("1000000", 1_000_000),
    "PING_EVERY": ("2.5", 2.5),
    "DATABASE_POOL": ("5", 5),
    "BUS_URL": ("valkeys+cluster://:secret@host:7000", "valkeys+cluster://:secret@host:7000"),
    "DATABASE_TIMEOUT": ("3", 3.0),
    "LOG_LEVEL": ("debug", "debug"),
}

BAD = [
    ("DATABASE_URL", "mysql://alice:hunter2@host/bytechat"),
    ("DATABASE_URL", "bytechat.db"),
    ("DATABASE_URL", "postgresql+asyncpg://alice:hunter2@host/bytechat"),
    ("DATABASE_URL", "postgresql://"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("PORT", "http"),
    ("PORT", "80.5"),
    ("PORT", "８０"),
    ("WEB_CONCURRENCY", "0"),
    ("WEB_CONCURRENCY", "65"),
    ("WEB_CONCURRENCY", "auto"),
    ("WORKER_CONNECTIONS", "199"),
    ("WORKER_CONNECTIONS", "100001"),
    ("TOKEN_HOURS", "0"),
    ("TOKEN_HOURS", "-1"),
    ("TOKEN_HOURS", "87601"),
    ("TOKEN_HOURS", "nan"),
    ("TOKEN_HOURS", "inf"),
    ("PASSWORD_MIN", "0"),
    ("PASSWORD_MIN", "73"),
    ("BCRYPT_ROUNDS", "3"),
    ("BCRYPT_ROUNDS", "17"),
    ("REGISTRATION", "yes"),
    ("REGISTRATION", "2"),
    ("GUESTS", "on"),
    ("GUESTS", "-1"),
    ("ALLOWED_ORIGINS", "*"),
    ("ALLOWED_ORIGINS", "a.example"),
    ("ALLOWED_ORIGINS", "ftp://a.example"),
    ("ALLOWED_ORIGINS", "https://a.example/"),
    ("ALLOWED_ORIGINS", "https://a.example https://b.example"),
    ("TRUSTED_PROXIES", "-1"),
    ("TRUSTED_PROXIES", "11"),
    ("TEXT_MAX", "-1"),
    ("TEXT_MAX", "4k"),
    ("TEXT_MAX", "1000001"),
    ("FRAME_MAX", "-1"),
    ("BODY_MAX", "-1"),
    ("OUTBOX_MAX", "-1"),
    ("PING_EVERY", "-1"),
    ("PING_EVERY", "3601"),
    ("PING_EVERY", "nan"),
    ("DATABASE_POOL", "1"),
    ("DATABASE_POOL", "101"),
    ("BUS_URL", "amqp://host"),
    ("BUS_URL", "valkey://"),
    ("BUS_URL", "redis://host:port"),
    ("DATABASE_TIMEOUT", "0"),
    ("DATABASE_TIMEOUT", "301"),
    ("LOG_LEVEL", "loud"),
    ("LOG_LEVEL", "INFO"),
]


def test_every_setting_has_an_example_here() -> None:
    assert list(GOOD) == list(FIELDS)


@pytest.mark.parametrize("name", GOOD)
def test_each_setting_is_read_from_the_environment(name: str) -> None:
    raw, value = GOOD[name]
    environ = {"DATABASE_URL": POSTGRESQL, "JWT_SECRET_KEY": SECRET, name: raw}
    read = getattr(Settings.from_environ(environ), FIELDS[name].name)
    assert read == value
    assert type(read) is type(value)
    assert read != FIELDS[name].default


@pytest.mark.parametrize("blank", ["", " ", "\n"])
@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_variable_counts_as_unset(name: str, blank: str) -> None:
    assert Settings.from_environ({name: blank}) == Settings()


def test_without_any_variable_all_is_as_the_defaults_say() -> None:
    assert Settings.from_environ({}) == Settings()


@pytest.mark.parametrize(("name", "raw"), BAD)
def test_a_bad_value_stops_the_start_and_is_not_repeated(name: str, raw: str) -> None:
    environ = {"JWT_SECRET_KEY": SECRET, name: raw}
    with pytest.raises(SettingError) as stopped:
        create_app(Settings.from_environ(environ))
    assert str(stopped.value) == f"{name} takes {describe(FIELDS[name])}."


@pytest.mark.parametrize("port", ["haven", "80x", "65536", "-1"])
def test_a_database_address_with_a_bad_port_stops_the_start_and_is_not_repeated(port: str) -> None:
    url = f"postgresql://alice:hunter2@host:{port}/bytechat"
    with pytest.raises(SettingError) as stopped:
        create_app(Settings.from_environ({"JWT_SECRET_KEY": SECRET, "DATABASE_URL": url}))
    assert str(stopped.value).startswith("DATABASE_URL takes ")
    assert "hunter2" not in str(stopped.value)


@pytest.mark.parametrize(
    "url", ["sqlite:///:memory:", "sqlite:////no/such/folder/bytechat.db", "sqlite:///:memory:?x=1"]
)
def test_a_database_that_could_not_be_kept_stops_the_start(url: str) -> None:
    with pytest.raises(SettingError, match=r"^DATABASE_URL takes a file"):
        Settings.from_environ({"DATABASE_URL": url})


@pytest.mark.parametrize(
    ("least", "texts"),
    [
        (1_000_000, {}),
        (1_000_000, {"TEXT_MAX": "0"}),  # texts end with their frames
        (1_000_000, {"TEXT_MAX": "1000000", "FRAME_MAX": "100000"}),
        (1_000_000, {"FRAME_MAX": "0", "BODY_MAX": "0"}),
        (1_000_006, {"TEXT_MAX": "100001", "FRAME_MAX": "0"}),
        (6_400_000, {"TEXT_MAX": "0", "BODY_MAX": "1000000"}),
    ],
)
def test_an_outbox_that_a_page_of_changes_does_not_fit_in_stops_the_start(
    least: int, texts: dict[str, str]
) -> None:
    for outbox_max in (0, least):
        Settings.from_environ({**texts, "OUTBOX_MAX": str(outbox_max)})
    for outbox_max in (1, least - 1):
        with pytest.raises(SettingError) as stopped:
            Settings.from_environ({**texts, "OUTBOX_MAX": str(outbox_max)})
        assert str(stopped.value).startswith(f"OUTBOX_MAX takes 0, or {least} or more, with")


def test_where_texts_have_no_limit_the_outbox_has_none() -> None:
    texts = {"TEXT_MAX": "0", "FRAME_MAX": "0"}
    Settings.from_environ({**texts, "OUTBOX_MAX": "0"})
    with pytest.raises(SettingError, match=r"^OUTBOX_MAX takes 0, with texts"):
        Settings.from_environ(texts)


@pytest.mark.parametrize("count", [1, 25, CHANGES_MAX])
def test_the_longest_page_of_changes_fits_in_the_smallest_outbox(count: int) -> None:
    text = "\x01" * (messages.PAGE_CHARACTERS // count)
    message = Message(
        id=BIGINT_MAX,
        room=BIGINT_MAX,
        seq=BIGINT_MAX,
        rev=BIGINT_MAX,
        user=Account(BIGINT_MAX, "\U00020000" * USERNAME_MAX),
        kind="system",
        text=text,
        created_at=datetime(2026, 1, 1, 1, 1, 1, 123456, tzinfo=UTC),
        client_id="\x01" * CLIENT_ID_MAX,
        reply_to=BIGINT_MAX,
    )
    page = frames.SyncPage([message] * count, BIGINT_MAX, more=True, room=BIGINT_MAX)
    assert len(frames.encode(page)) + CHUNK_COST <= Settings().longest_page


def test_several_processes_need_postgresql_and_the_line_says_what_to_do() -> None:
    with pytest.raises(SettingError) as stopped:
        Settings.from_environ({"WEB_CONCURRENCY": "2"})
    assert str(stopped.value).startswith("WEB_CONCURRENCY")
    assert "DATABASE_URL=postgresql://" in str(stopped.value)
    assert "WEB_CONCURRENCY=1" in str(stopped.value)


@pytest.mark.parametrize(
    "key",
    [
        "k" * (SECRET_BYTES - 1),
        "ключ" * 3 + "k" * 7,  # 31 bytes of 19 characters
    ],
)
def test_a_short_secret_is_refused(key: str) -> None:
    with pytest.raises(SettingError, match=r"JWT_SECRET_KEY takes at least 32 bytes") as stopped:
        Settings.from_environ({"JWT_SECRET_KEY": key})
    assert "openssl rand -hex 32" in str(stopped.value)
    assert key not in str(stopped.value)


def test_a_secret_is_measured_in_bytes() -> None:
    Settings.from_environ({"JWT_SECRET_KEY": "k" * SECRET_BYTES})
    Settings.from_environ({"JWT_SECRET_KEY": "ключ" * 4})


def test_a_secret_that_is_not_utf8_stops_the_start_with_one_line() -> None:
    undecodable = os.fsdecode(b"\xff" * 40)  # as os.environ has it
    with pytest.raises(SettingError, match="JWT_SECRET_KEY"):
        Settings.from_environ({"JWT_SECRET_KEY": undecodable})


def test_with_postgresql_the_secret_must_be_set() -> None:
    with pytest.raises(SettingError, match="JWT_SECRET_KEY must be set"):
        Settings.from_environ({"DATABASE_URL": POSTGRESQL})


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_way_to_write_postgresql_means_psycopg2(scheme: str) -> None:
    settings = Settings.from_environ(
        {"DATABASE_URL": f"{scheme}://alice@h/postgres", "JWT_SECRET_KEY": SECRET}
    )
    assert settings.sqlalchemy_url == "postgresql+psycopg2://alice@h/postgres"
    assert not settings.on_sqlite


@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "a[b", "a:b", "postgres://", "%40"])
def test_a_database_password_may_have_what_sqlalchemy_takes(password: str) -> None:
    url = f"postgresql://alice:{password}@h:5432/n"
    settings = Settings.from_environ({"DATABASE_URL": url, "JWT_SECRET_KEY": SECRET})
    read = make_url(settings.sqlalchemy_url)
    assert (read.password, read.host, read.port) == (unquote(password), "h", 5432)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///bytechat?host=/run/postgresql",
        "postgresql://localhost",
        "postgresql://alice@[::1]:5433/bytechat",
        "postgres://alice:secret@db.example:5432/bytechat?sslmode=require",
    ],
)
def test_a_database_address_may_be_written_in_all_the_ways_of_postgresql(url: str) -> None:
    settings = Settings.from_environ({"DATABASE_URL": url, "JWT_SECRET_KEY": SECRET})
    assert make_url(settings.sqlalchemy_url).drivername == "postgresql+psycopg2"


def test_the_sqlite_url_stays_as_it_is() -> None:
    settings = Settings.from_environ({"DATABASE_URL": "sqlite:///postgres://x.db"})
    assert settings.sqlalchemy_url == "sqlite:///postgres://x.db"
    assert settings.on_sqlite


def test_allowed_origins_are_compared_without_case_or_spaces() -> None:
    settings = Settings.from_environ(
        {"ALLOWED_ORIGINS": "https://A.example , http://localhost:8080"}
    )
    assert settings.origins == {"https://a.example", "http://localhost:8080"}


def test_some_connections_are_kept_for_plain_http() -> None:
    assert Settings(worker_connections=200).max_sockets == 100


# The key of an installation on one machine. These call the function that create_app() calls, as
# the instance folder of an application is always the one of this checkout.


def test_the_key_is_made_on_the_first_start_and_kept_on_the_second(tmp_path: Path) -> None:
    instance = tmp_path / "deep" / "instance"
    first = config._own_secret(instance)
    assert len(first.encode()) >= SECRET_BYTES
    assert config._own_secret(instance) == first
    assert [path.name for path in instance.iterdir()] == ["jwt_secret_key"]


def test_each_installation_makes_another_key(tmp_path: Path) -> None:
    assert config._own_secret(tmp_path / "a") != config._own_secret(tmp_path / "b")


def test_nobody_else_may_read_the_key(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    before = os.umask(0)
    try:
        config._own_secret(instance)
    finally:
        os.umask(before)
    assert stat.S_IMODE((instance / "jwt_secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(instance.stat().st_mode) == 0o700


def test_of_two_that_start_at_once_both_keep_the_first_ones_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = 8
    together = Barrier(starts)
    exists = Path.exists

    def look_together(path: Path) -> bool:
        found = exists(path)
        if path == tmp_path / "jwt_secret_key":
            together.wait(10)  # nobody makes a key before all have seen that there is none
        return found

    with monkeypatch.context() as patch, ThreadPoolExecutor(starts) as pool:
        patch.setattr(Path, "exists", look_together)
        keys = set(pool.map(config._own_secret, [tmp_path] * starts))
    assert keys == {(tmp_path / "jwt_secret_key").read_text()}
    assert len(list(tmp_path.iterdir())) == 1  # and no draft is left


@pytest.mark.parametrize("content", [b"", b"too short", b" " * 64, b"\xff" * 64])
def test_a_damaged_key_file_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jwt_secret_key"
    path.write_bytes(content)
    with pytest.raises(SettingError, match="jwt_secret_key is damaged"):
        config._own_secret(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "mysql://alice:hunter2@host/bytechat"},
        {"DATABASE_URL": POSTGRESQL},
        {"WEB_CONCURRENCY": "2"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_bad_setting_ends_flask_with_one_line(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "db", "upgrade"],
        cwd=ROOT,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
