"""The tables. A room is a log: every change of a message takes the room's next number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column

from .extensions import Base

#: SQLite numbers rows by itself only in a column of type INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")


#: The room that every account is in; the first migration makes it.
LOBBY = "lobby"


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC on both databases: SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class User(Base):
    """An account; or a guest, who has no password and is gone with the socket."""

    __tablename__ = "users"
    #: An id is never given twice: a token, or a message on its way, may still speak of the first.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    #: In its PRECIS form (auth/names.py), so that the UNIQUE constraint compares without case.
    username: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(String(64))
    password_hash: Mapped[str | None] = mapped_column(String(60))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    #: Since when an administrator has shut the account out; None if nobody has.
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class UserSession(Base):
    """Where an account is signed in. Tokens come and go within it; they have its id as ``sid``.

    A token works no longer than its session's row is there.
    """

    __tablename__ = "sessions"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    #: Of its token now, by which open sockets are found; None if it is older than the column.
    jti: Mapped[str | None] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class RevokedToken(Base):
    """The blocklist. A row is kept until the token would have expired anyway."""

    __tablename__ = "revoked_tokens"

    jti: Mapped[str] = mapped_column(String(36), primary_key=True)
    revoked_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    #: Whether its account was disabled: its sockets are closed with another code then.
    disabled: Mapped[bool] = mapped_column(server_default=false())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class Room(Base):
    """A log of messages; ``head`` is the last number taken in it."""

    __tablename__ = "rooms"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str | None] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(8))
    topic: Mapped[str] = mapped_column(String(250))
    head: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Member(Base):
    """That a user is in a room."""

    __tablename__ = "members"

    room_id: Mapped[int] = mapped_column(
        ForeignKey("rooms.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: Mapped[str] = mapped_column(String(9))
    joined_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Message(Base):
    """``seq`` is its place in the room, for ever; ``rev`` the number of its latest change.

    Numbers are taken under the room row's lock, in the transaction that writes the message, so the
    order of numbers is the order of commits, and ``rev > n ORDER BY rev`` misses nothing.
    """

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("room_id", "seq"),
        UniqueConstraint("room_id", "rev"),
        # The same (author, client_id) never makes two messages; NULLs do not count.
        UniqueConstraint("user_id", "client_id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    room_id: Mapped[int] = mapped_column(ForeignKey("rooms.id"))
    seq: Mapped[int] = mapped_column(BigInteger)
    rev: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(8))
    client_id: Mapped[str | None] = mapped_column(String(64))
    #: Of the same room; the journal checks that.
    reply_to: Mapped[int | None] = mapped_column(ForeignKey("messages.id"))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Worker(Base):
    """A worker that shares the database with others. One that stops to beat is gone.

    What changes among its users takes its next ``version``: a log like a room's.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    sockets: Mapped[int] = mapped_column(Integer)
    #: By the database's clock.
    beat_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Presence(Base):
    """A user who has, or had, sockets at a worker; ``version`` is that of the latest change.

    It is no reference to a user: a guest who has left is forgotten, and must be seen to leave.
    """

    __tablename__ = "presences"
    __table_args__ = (Index(None, "worker_id", "version"),)

    worker_id: Mapped[str] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(BigId, primary_key=True)
    username: Mapped[str] = mapped_column(String(64))
    #: The ids of the rooms, as a JSON list; empty when the user has no socket there any more.
    rooms: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger)
