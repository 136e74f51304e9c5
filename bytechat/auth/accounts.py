"""The rules of accounts."""

from __future__ import annotations

from datetime import datetime
from secrets import choice

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import Invalid, InvalidCredentials, NotFound, UsernameTaken
from ..models import LOBBY, Member, Message, Room, User, UserSession, now
from ..storage import reading, transaction
from . import names, passwords, tokens
from .schemas import Account, Profile

_silent_guests = delete(User).where(
    User.password_hash.is_(None), ~exists().where(Message.user_id == User.id)
)

_GUEST_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def register(username: str, password: str, *, password_min: int, rounds: int) -> Account:
    """Make an account, which is in the lobby from its first minute.

    Raises Invalid, UsernameTaken, TooBusy.
    """
    name = names.username_form(username)
    secret = names.password_form(password, password_min)
    with reading() as db:
        if db.scalar(select(User.id).where(User.username == name)):
            raise UsernameTaken
    password_hash = passwords.hashed(secret, rounds)
    try:
        with transaction() as db:
            account = _insert_user(db, name, username, password_hash)
            lobby_id = select(Room.id).where(Room.name == LOBBY).scalar_subquery()
            db.execute(
                insert(Member).values(
                    room_id=lobby_id, user_id=account.id, role="member", joined_at=now()
                )
            )
    except IntegrityError:
        # Two may register a name at the same moment: the UNIQUE constraint decides, not the look
        # above, which only saves the hashing.
        raise UsernameTaken from None
    return account


def check_credentials(username: str, password: str, *, rounds: int) -> Account:
    """The account of this name and password. Raises InvalidCredentials, TooBusy.

    A name or password that could never have been registered is wrong like any other. Whether the
    account is disabled is asked later, when it opens a session: only who has the password is told.
    """
    try:
        name = names.username_form(username)
        secret = names.password_form(password, shortest=1)
    except Invalid:
        name, secret = "", b""  # no account has it
    with reading() as db:
        user = db.execute(
            select(User.id, User.username, User.password_hash).where(User.username == name)
        ).one_or_none()
    # No connection is held while hashing: a login storm must not take the pool.
    if not passwords.matches(secret, user.password_hash if user else None, rounds) or not user:
        raise InvalidCredentials
    return Account(user.id, user.username)


def disable(username: str) -> int:
    """Shut an account out, and end its sessions; returns how many. Raises Invalid, NotFound."""
    with transaction() as db:
        user_id = _mark(db, username, func.coalesce(User.disabled_at, now()))
        ended = tokens.end_sessions(db, UserSession.user_id == user_id, disabled=True)
    tokens.announce(ended.jtis, disabled=True)
    return ended.sessions


def enable(username: str) -> None:
    """Let a disabled account sign in again. Raises Invalid, NotFound."""
    with transaction() as db:
        _mark(db, username, None)


def _mark(db: Connection, username: str, disabled_at: ColumnElement[datetime | None] | None) -> int:
    """Change since when the account is disabled; its id."""
    named = update(User).where(User.username == names.username_form(username))
    user_id: int | None = db.scalar(named.values(disabled_at=disabled_at).returning(User.id))
    if user_id is None:
        raise NotFound("There is no account of this name.")
    return user_id


def profile(user_id: int) -> Profile | None:
    """What an account says of itself; None if it is gone."""
    with reading() as db:
        user = db.execute(
            select(User.id, User.username, User.display_name, User.created_at).where(
                User.id == user_id
            )
        ).one_or_none()
    return Profile(*user) if user else None


def admit_guest() -> Account:
    """A user row for a socket without a token: no password, so nobody can log in to it."""
    while True:
        name = names.GUEST_PREFIX + "".join(choice(_GUEST_LETTERS) for _ in range(4))
        try:
            with transaction() as db:
                return _insert_user(db, name, name, None)
        except IntegrityError:
            continue  # the name is taken: another


def dismiss_guest(user_id: int) -> None:
    """Forget a guest who has left without a word; one who has spoken stays as the author."""
    with transaction() as db:
        db.execute(_silent_guests.where(User.id == user_id))


def purge_guests(before: datetime) -> None:
    """Forget silent guests from before this moment, whose sockets nobody has dismissed."""
    with transaction() as db:
        db.execute(_silent_guests.where(User.created_at < before))


def _insert_user(
    db: Connection, username: str, display_name: str, password_hash: str | None
) -> Account:
    user_id: int = db.scalars(
        insert(User).returning(User.id),
        {
            "username": username,
            "display_name": display_name,
            "password_hash": password_hash,
            "created_at": now(),
        },
    ).one()
    return Account(user_id, username)
