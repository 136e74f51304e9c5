"""JSON Web Tokens: making, checking and revoking them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from blinker import Signal
from flask import Flask, Response, current_app, request
from flask_jwt_extended import create_access_token, decode_token
from flask_jwt_extended.exceptions import CSRFError
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
)

from ..errors import (
    AccountDisabled,
    CsrfFailed,
    InvalidToken,
    NotAuthenticated,
    TokenDisabled,
    TokenExpired,
    TokenRevoked,
    response_to,
)
from ..extensions import jwt
from ..models import RevokedToken, User, UserSession, now
from ..storage import reading, transaction

Claims = dict[str, Any]

#: Sent by the application, after the commit, when tokens have stopped working: with ``jtis``, the
#: set of them, and ``disabled``, whether because their account is. Whoever keeps something open for
#: a token closes it.
token_revoked = Signal()

#: What ``check`` wants to know of a token: columns for a statement over ``users``, which binds
#: ``user_id``, ``sid`` and ``jti``.
STANDING = (
    or_(
        exists().where(RevokedToken.jti == bindparam("jti")),
        # Of sessions from before they had a ``jti`` the tokens cannot be listed, but they end too.
        ~exists().where(
            UserSession.id == bindparam("sid"), UserSession.user_id == bindparam("user_id")
        ),
    ).label("ended"),
    User.disabled_at.is_not(None).label("disabled"),
)

# Every request with a token asks this: built once.
_standing = select(*STANDING).where(User.id == bindparam("user_id"))
_revoked_since = select(RevokedToken.jti, RevokedToken.disabled).where(
    RevokedToken.revoked_at > bindparam("moment")
)


# Where a scheme may stand: at the beginning, or behind a comma.
_BEARER = re.compile(r"(?<![^\s,])bearer(?=\s)", re.IGNORECASE)


class Ended(NamedTuple):
    """Sessions that have ended."""

    #: Of the tokens by which their open sockets are found.
    jtis: set[str]
    #: How many there were that had not expired.
    sessions: int


def open_session(user_id: int, expires_at: datetime) -> str:
    """Note that the user is signed in; returns the token. Raises AccountDisabled."""
    jti = str(uuid4())
    # The lock is held until the commit. Who disables the account meanwhile waits for it, and then
    # sees this session and ends it.
    able = select(User.id).where(User.id == user_id, User.disabled_at.is_(None))
    with transaction() as db:
        if db.scalar(able.with_for_update(read=True)) is None:
            raise AccountDisabled
        session_id = db.scalars(
            insert(UserSession).returning(UserSession.id),
            {"user_id": user_id, "jti": jti, "created_at": now(), "expires_at": expires_at},
        ).one()
    return issue(user_id, session_id, jti, expires_at)


def issue(user_id: int, session_id: int, jti: str, expires_at: datetime) -> str:
    """A token for this user in this session."""
    token: str = create_access_token(
        identity=str(user_id),  # PyJWT refuses an integer ``sub`` when it reads the token back
        additional_claims={"sid": session_id, "jti": jti},
        expires_delta=expires_at - now(),
    )
    return token


def csrf_of(token: str) -> str:
    """The value that a page must send in X-CSRF-TOKEN with this token's cookie."""
    value: str = decode_token(token)["csrf"]
    return value


def expiry(claims: Claims) -> datetime:
    """When the token stops working."""
    return datetime.fromtimestamp(claims["exp"], UTC)


def check(standing: Row[*tuple[Any, ...]] | None) -> None:
    """Raise TokenRevoked or TokenDisabled, unless the token of this STANDING works.

    None is the standing of a user who is gone.
    """
    if standing and standing.disabled:
        raise TokenDisabled
    if not standing or standing.ended:
        raise TokenRevoked


def revoke(claims: Claims) -> None:
    """End the session of this token."""
    with transaction() as db:
        ended = end_sessions(db, UserSession.id == claims["sid"], own=claims)
    announce(ended.jtis | {claims["jti"]})


def revoke_all(claims: Claims) -> int:
    """End all sessions of this token's user; returns how many."""
    with transaction() as db:
        ended = end_sessions(db, UserSession.user_id == int(claims["sub"]), own=claims)
    announce(ended.jtis)
    return ended.sessions


def end_sessions(
    db: Connection,
    which: ColumnElement[bool],
    *,
    own: Claims | None = None,
    disabled: bool = False,
) -> Ended:
    """End these sessions, and put their tokens on the blocklist until they would have expired.

    ``own`` are the claims of the token that asks, if one does. Call ``announce`` after the commit.
    """
    moment = now()
    # First the rows go: of two who end a session at the same moment one is given its row, and that
    # one alone lists its token.
    gone = db.execute(
        delete(UserSession)
        .where(which)
        .returning(UserSession.id, UserSession.jti, UserSession.expires_at)
    ).all()
    asking = {own["sid"]: own["jti"]} if own else {}
    ends = {row.jti or asking.get(row.id): row.expires_at for row in gone}
    rows = [
        {"jti": jti, "revoked_at": moment, "expires_at": expires_at, "disabled": disabled}
        for jti, expires_at in ends.items()
        if jti
    ]
    if rows:
        db.execute(insert(RevokedToken), rows)
    return Ended({row["jti"] for row in rows}, sum(row.expires_at > moment for row in gone))


def announce(jtis: set[str], *, disabled: bool = False) -> None:
    """Say that these tokens have stopped working; to be called after the commit."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 as documented
    token_revoked.send(app, jtis=jtis, disabled=disabled)


def revoked_since(moment: datetime) -> dict[bool, set[str]]:
    """The ``jti`` of tokens revoked after this moment, on any worker.

    Under False those that were signed out, under True those whose account was disabled.
    """
    jtis: dict[bool, set[str]] = {False: set(), True: set()}
    with reading() as db:
        for jti, disabled in db.execute(_revoked_since, {"moment": moment}):
            jtis[disabled].add(jti)
    return jtis


def purge_expired(long_ago: datetime) -> None:
    """Forget sessions and revoked tokens that have expired, so that the tables do not only grow.

    ``long_ago`` is well after their end: a machine whose clock is behind may still be asked.
    """
    with transaction() as db:
        db.execute(delete(RevokedToken).where(RevokedToken.expires_at < long_ago))
        db.execute(delete(UserSession).where(UserSession.expires_at < long_ago))


def init_app(app: Flask) -> None:
    """Register the handlers that flask-jwt-extended does not let a loader set."""
    # The extension files a missing CSRF header under "no token"; it is another mistake.
    app.register_error_handler(CSRFError, lambda _error: response_to(CsrfFailed()))

    @app.before_request
    def spell_bearer() -> None:
        # A scheme is compared without case (RFC 7235, section 2.1), but not by the extension.
        if given := request.headers.get("Authorization"):
            request.environ["HTTP_AUTHORIZATION"] = _BEARER.sub("Bearer", given)

    @app.before_request
    def check_csrf_is_ascii() -> None:
        # The extension compares it by hmac.compare_digest(), which takes nothing else.
        if not request.headers.get("X-CSRF-TOKEN", "").isascii():
            raise CsrfFailed


@jwt.token_in_blocklist_loader
def is_revoked(_header: Claims, claims: Claims) -> bool:
    """Ask the database. An error of it is not caught: it becomes 503, never a pass."""
    asked = {"user_id": int(claims["sub"]), "sid": claims["sid"], "jti": claims["jti"]}
    with reading() as db:
        check(db.execute(_standing, asked).one_or_none())
    return False


@jwt.token_verification_loader
def is_current(_header: Claims, claims: Claims) -> bool:
    """Expiry without the leeway, which is meant for clocks that are ahead (``iat``, ``nbf``)."""
    return expiry(claims) > now()


@jwt.token_verification_failed_loader
@jwt.expired_token_loader
def on_expired(_header: Claims, _claims: Claims) -> Response:
    return response_to(TokenExpired())


@jwt.invalid_token_loader
def on_invalid(_reason: str) -> Response:
    return response_to(InvalidToken())


@jwt.unauthorized_loader
def on_missing(_reason: str) -> Response:
    return response_to(NotAuthenticated())
