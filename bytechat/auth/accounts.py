"""The rules of accounts."""

from __future__ import annotations

from datetime import datetime
from secrets import choice

from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..errors import Invalid, InvalidCredentials, UsernameTaken
from ..models import LOBBY, Member, Message, Room, User, UserSession, now
from ..storage import transaction
from . import names, passwords

_GUEST_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def register(username: str, password: str, *, password_min: int, rounds: int) -> User:
    """Make an account, which is in the lobby from its first minute.

    Raises Invalid, UsernameTaken, TooBusy.
    """
    name = names.username_form(username)
    secret = names.password_form(password, password_min)
    with transaction() as session:
        if session.scalar(select(exists().where(User.username == name))):
            raise UsernameTaken
    password_hash = passwords.hashed(secret, rounds)
    user = User(username=name, display_name=username, password_hash=password_hash, created_at=now())
    try:
        with transaction() as session:
            session.add(user)
            session.flush()
            _join_lobby(session, user)
    except IntegrityError:
        # Two may register a name at the same moment: the UNIQUE constraint decides, not the look
        # above, which only saves the hashing.
        raise UsernameTaken from None
    return user


def check_credentials(username: str, password: str, *, rounds: int) -> User:
    """The account of this name and password. Raises InvalidCredentials, TooBusy.

    A name or password that could never have been registered is wrong like any other.
    """
    try:
        name = names.username_form(username)
    except Invalid:
        name = ""
    try:
        secret = names.password_form(password, shortest=1)
    except Invalid:
        secret, name = b"", ""
    with transaction() as session:
        user = session.scalar(select(User).where(User.username == name))
    known_hash = user.password_hash if user else None
    # No connection is held while hashing: a login storm must not take the pool.
    if not passwords.matches(secret, known_hash, rounds) or user is None:
        raise InvalidCredentials
    return user


def open_session(user: User, expires_at: datetime) -> int:
    """Note that the account is signed in; returns the session's id."""
    with transaction() as session:
        row = UserSession(user_id=user.id, created_at=now(), expires_at=expires_at)
        session.add(row)
        session.flush()
        return row.id


def admit_guest() -> User:
    """A user row for a socket without a token: no password, so nobody can log in to it."""
    while True:
        name = names.GUEST_PREFIX + "".join(choice(_GUEST_LETTERS) for _ in range(4))
        user = User(username=name, display_name=name, password_hash=None, created_at=now())
        try:
            with transaction() as session:
                session.add(user)
            return user
        except IntegrityError:
            continue  # the name is taken: another


def dismiss_guest(user_id: int) -> None:
    """Forget a guest who has left without a word; one who has spoken stays as the author."""
    with transaction() as session:
        user = session.get(User, user_id)
        spoke = exists().where(Message.user_id == user_id)
        if user is not None and not session.scalar(select(spoke)):
            session.delete(user)


def _join_lobby(session: Session, user: User) -> None:
    lobby_id = session.scalars(select(Room.id).where(Room.name == LOBBY)).one()
    session.add(Member(room_id=lobby_id, user_id=user.id, role="member", joined_at=now()))
