"""The settings: typed, from the environment, each with what it takes; a bad one stops the start."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from flask import Flask

#: HMAC-SHA256 wants a key of at least the size of its output (RFC 7518, section 3.2).
SECRET_BYTES = 32

#: So many fewer sockets than connections: a handshake is one of both, and health checks and logins
#: are still answered when a worker is full of sockets.
HTTP_RESERVE = 100

#: A page of changes at its longest: characters of its texts if no single one is longer, bytes that
#: a character may take in JSON, and bytes of all else that its messages have.
PAGE_CHARACTERS = 100_000
CHARACTER_BYTES = 6
PAGE_OVERHEAD = 400_000

# As sqlalchemy.make_url() reads it, which would fail on a port that is no number.
_POSTGRESQL_URL = (
    r"(postgres|postgresql|postgresql\+psycopg2)://(?=.)"
    r"([^:/]*(:[^@]*)?@)?(\[[^/?]+\]|[^/:?]+)?(:(?P<port>\d*))?(/|\?|$)"
)
_BUS_URL = r"(redis|valkey)s?(\+cluster)?://([^@/\s]*@)?[^@/:\s]+(:\d{1,5})?(/\d*)?(\?\S*)?"
_ORIGIN = r"https?://[^/\s,]+"


class SettingError(SystemExit):
    """A setting is missing or wrong.

    It is a SystemExit so that whoever starts ByteChat (gunicorn, ``flask``, Python) ends with this
    one line instead of a traceback.
    """


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """One field for each environment variable; the description says what it takes."""

    database_url: Annotated[
        str,
        Meta(
            pattern=rf"^(sqlite:///.|{_POSTGRESQL_URL})",
            description="sqlite:///FILE (in the instance folder) "
            "or postgresql://USER:PASSWORD@HOST/NAME",
        ),
    ] = "sqlite:///bytechat.db"
    host: Annotated[
        str, Meta(min_length=1, description="the address to listen on; 127.0.0.1 is this machine")
    ] = "0.0.0.0"  # noqa: S104 a server is there to be reached; `make run` sets 127.0.0.1
    port: Annotated[int, Meta(ge=1, le=65535, description="a port, 1 to 65535")] = 8080
    web_concurrency: Annotated[
        int, Meta(ge=1, le=64, description="worker processes, 1 to 64; over 1 needs PostgreSQL")
    ] = 1
    worker_connections: Annotated[
        int,
        Meta(
            ge=200,
            le=100_000,
            description="HTTP connections of one worker, 200 to 100000; and, less 100, its sockets",
        ),
    ] = 10_000
    jwt_secret_key: Annotated[
        str,
        Meta(description="at least 32 bytes that nobody knows; with SQLite one is made for you"),
    ] = ""
    token_hours: Annotated[
        float, Meta(gt=0, le=87_600, description="hours that a sign-in lasts, over 0 to 87600")
    ] = 168
    password_min: Annotated[
        int, Meta(ge=1, le=72, description="characters of the shortest password, 1 to 72")
    ] = 6
    bcrypt_rounds: Annotated[
        int, Meta(ge=4, le=16, description="bcrypt cost, 4 (tests only) to 16")
    ] = 12
    registration: Annotated[
        bool, Meta(description="1 or 0: whether people may register themselves")
    ] = True
    guests: Annotated[
        bool, Meta(description="1 or 0: whether a socket without a token may talk in the lobby")
    ] = False
    allowed_origins: Annotated[
        str,
        Meta(
            pattern=rf"^({_ORIGIN}(\s*,\s*{_ORIGIN})*)?$",
            description="origins of other sites whose pages may open sockets, "
            "with commas between: https://a.example,https://b.example",
        ),
    ] = ""
    trusted_proxies: Annotated[
        int,
        Meta(
            ge=0, le=10, description="reverse proxies in front, 0 to 10; their headers are believed"
        ),
    ] = 0
    text_max: Annotated[
        int, Meta(ge=0, le=1_000_000, description="characters of a message; 0 is no limit")
    ] = 4000
    frame_max: Annotated[
        int, Meta(ge=0, description="bytes of a WebSocket message; 0 is no limit")
    ] = 65_536
    body_max: Annotated[
        int, Meta(ge=0, description="bytes of an HTTP request's body; 0 is no limit")
    ] = 65_536
    outbox_max: Annotated[
        int,
        Meta(
            ge=0,
            description="bytes that may wait for one slow socket, 1000000 or more; 0 is no limit",
        ),
    ] = 1_048_576
    ping_every: Annotated[
        float, Meta(ge=0, le=3600, description="seconds between pings, up to 3600; 0 is never")
    ] = 25
    database_pool: Annotated[
        int, Meta(ge=2, le=100, description="PostgreSQL connections of one worker, 2 to 100")
    ] = 10
    bus_url: Annotated[
        str,
        Meta(
            pattern=rf"^({_BUS_URL})?$",
            description="redis://HOST, rediss://, valkey:// or valkeys://, "
            "with +cluster before the colon for a cluster; unset is PostgreSQL's own",
        ),
    ] = ""
    database_timeout: Annotated[
        float,
        Meta(ge=1, le=300, description="seconds that PostgreSQL may take to answer, 1 to 300"),
    ] = 5
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="debug, info, warning or error"),
    ] = "info"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read and check the environment; an empty variable counts as unset.

        Raises SettingError with one line that names the setting and what it takes. The value is not
        repeated: it may be a secret.
        """
        values = {}
        for field in msgspec.structs.fields(cls):
            if raw := environ.get(field.encode_name, "").strip():
                try:
                    raw.encode()
                    values[field.name] = msgspec.convert(raw, field.type, strict=False)
                except (msgspec.ValidationError, UnicodeEncodeError):
                    raise SettingError(f"{field.encode_name} takes {describe(field)}.") from None
        settings = cls(**values)
        settings._check_together()
        return settings

    def _check_together(self) -> None:
        """The rules that a single field's type cannot say."""
        address = re.match(_POSTGRESQL_URL, self.database_url)
        if address and int(address["port"] or 0) > 65_535:
            raise SettingError("DATABASE_URL takes a port, 1 to 65535.")
        if self.on_sqlite:
            path = Path(self.database_url.removeprefix("sqlite:///").partition("?")[0])
            if ":memory:" in path.name or (path.is_absolute() and not path.parent.is_dir()):
                raise SettingError("DATABASE_URL takes a file, in a folder that is there.")
        if 0 < self.outbox_max < (page := self.longest_page):
            takes = f"0, or {page:.0f} or more" if page < inf else "0"
            raise SettingError(
                f"OUTBOX_MAX takes {takes}, with texts as long as TEXT_MAX, FRAME_MAX and BODY_MAX "
                "let them be: who has missed a page that does not fit could never catch up."
            )
        if self.on_sqlite and self.web_concurrency > 1:
            raise SettingError(
                "WEB_CONCURRENCY over 1 needs PostgreSQL, as SQLite is for one process: "
                "set DATABASE_URL=postgresql://..., or WEB_CONCURRENCY=1."
            )
        if self.on_sqlite and self.bus_url:
            raise SettingError(
                "BUS_URL needs PostgreSQL, as with SQLite there is one process and nobody to tell: "
                "set DATABASE_URL=postgresql://..., or leave BUS_URL unset."
            )
        if self.jwt_secret_key and len(self.jwt_secret_key.encode()) < SECRET_BYTES:
            raise SettingError(
                "JWT_SECRET_KEY takes at least 32 bytes that nobody knows. "
                "Make one with: openssl rand -hex 32"
            )
        if not self.jwt_secret_key and not self.on_sqlite:
            raise SettingError(
                "JWT_SECRET_KEY must be set with PostgreSQL, as all workers share it. "
                "Make one with: openssl rand -hex 32"
            )

    @property
    def on_sqlite(self) -> bool:
        """Whether the database is one file of SQLite."""
        return self.database_url.startswith("sqlite")

    @property
    def longest_page(self) -> float:
        """Bytes of a page of changes, at most; infinite if a text may be so."""
        ways = max(self.frame_max or inf, self.body_max or inf)
        text = min(self.text_max or inf, ways)
        return CHARACTER_BYTES * max(PAGE_CHARACTERS, text) + PAGE_OVERHEAD

    @property
    def sqlalchemy_url(self) -> str:
        """The database address as SQLAlchemy 2.1 wants it.

        There ``postgres://`` (which Heroku sets) is refused, and ``postgresql://`` means psycopg 3.
        """
        return re.sub(r"^(postgres|postgresql)://", "postgresql+psycopg2://", self.database_url)

    @property
    def origins(self) -> frozenset[str]:
        """The other sites whose pages may open sockets."""
        return frozenset(o.strip().lower() for o in self.allowed_origins.split(",") if o.strip())

    @property
    def max_sockets(self) -> int:
        """Sockets that one worker holds at most."""
        return self.worker_connections - HTTP_RESERVE


def describe(field: msgspec.structs.FieldInfo) -> str:
    """What a setting takes, in words; the documentation has the same text."""
    info = msgspec.inspect.type_info(field.type)
    assert isinstance(info, msgspec.inspect.Metadata)
    assert info.extra_json_schema is not None
    return str(info.extra_json_schema["description"])


def configure(app: Flask, settings: Settings) -> None:
    """Put the settings where Flask and its extensions look for theirs."""
    app.extensions["bytechat.settings"] = settings
    app.config.from_mapping(
        MAX_CONTENT_LENGTH=settings.body_max or None,
        SQLALCHEMY_DATABASE_URI=settings.sqlalchemy_url,
        JWT_SECRET_KEY=settings.jwt_secret_key or _own_secret(Path(app.instance_path)),
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(hours=settings.token_hours),
        JWT_TOKEN_LOCATION=["headers", "cookies"],
        JWT_QUERY_STRING_NAME="token",  # read on /ws alone
        JWT_ACCESS_COOKIE_NAME="bytechat_session",
        JWT_ACCESS_CSRF_COOKIE_NAME="bytechat_csrf",
        JWT_COOKIE_SAMESITE="Lax",
        # For tokens made by a machine whose clock is ahead; expiry stays exact (auth/tokens.py).
        JWT_DECODE_LEEWAY=timedelta(seconds=10),
    )


def current_settings() -> Settings:
    """The settings of the application that is handling this request."""
    from flask import current_app

    return cast("Settings", current_app.extensions["bytechat.settings"])


def _own_secret(instance: Path) -> str:
    """The key of a single-machine installation: made on the first start, then kept (mode 0600)."""
    instance.mkdir(mode=0o700, parents=True, exist_ok=True)  # the database lies there too
    path = instance / "jwt_secret_key"
    draft = instance / f".jwt_secret_key.{os.getpid()}.{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
        try:
            # A link never replaces: of two that start at once, the first one's key is kept by both.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_bytes().strip()
    if len(secret) < SECRET_BYTES or not secret.isascii():
        raise SettingError(f"{path} is damaged: it must hold {SECRET_BYTES} or more ASCII bytes.")
    return secret.decode()
