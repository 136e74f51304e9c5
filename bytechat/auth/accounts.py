"""The rules of accounts."""

from __future__ import annotations

from datetime import datetime
from secrets import choice

from sqlalchemy import Connection, delete, exists, insert, select
from sqlalchemy.exc import IntegrityError

from ..errors import Invalid, InvalidCredentials, UsernameTaken
from ..models import LOBBY, Member, Message, Room, User, UserSession, now
from ..storage import reading, transaction
from . import names, passwords
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

    A name or password that could never have been registered is wrong like any other.
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


def open_session(account: Account, expires_at: datetime) -> int:
    """Note that the account is signed in; returns the session's id."""
    with transaction() as db:
        session_id: int = db.scalars(
            insert(UserSession).returning(UserSession.id),
            {"user_id": account.id, "created_at": now(), "expires_at": expires_at},
        ).one()
        return session_id


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
