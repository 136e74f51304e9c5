"""JSON Web Tokens: making, checking and revoking them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from blinker import Signal
from flask import Flask, Response, current_app, request
from flask_jwt_extended import create_access_token, decode_token
from flask_jwt_extended.exceptions import CSRFError
from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from ..errors import (
    CsrfFailed,
    InvalidToken,
    NotAuthenticated,
    TokenExpired,
    TokenRevoked,
    response_to,
)
from ..extensions import jwt
from ..models import RevokedToken, UserSession, now
from ..storage import reading, transaction

Claims = dict[str, Any]

#: Sent by the application, with ``jti``, when a token has stopped working. Whoever keeps something
#: open for a token closes it.
token_revoked = Signal()


# Every request with a token asks this: built once.
_revoked = select(RevokedToken.jti).where(RevokedToken.jti == bindparam("jti"))


def issue(user_id: int, session_id: int, expires_at: datetime) -> str:
    """A token for this user in this session; each has a ``jti`` of its own."""
    token: str = create_access_token(
        identity=str(user_id),  # PyJWT refuses an integer ``sub`` when it reads the token back
        additional_claims={"sid": session_id},
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


def revoke(claims: Claims) -> None:
    """End the session, and put its token on the blocklist until it would have expired anyway."""
    row = {"jti": claims["jti"], "revoked_at": now(), "expires_at": expiry(claims)}
    try:
        with transaction() as db:
            db.execute(insert(RevokedToken), row)
            db.execute(delete(UserSession).where(UserSession.id == claims["sid"]))
    except IntegrityError:
        pass  # signed out twice at the same moment: it is on the list
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 as documented
    token_revoked.send(app, jti=claims["jti"])


def revoked_since(moment: datetime) -> set[str]:
    """The ``jti`` of tokens revoked after this moment, on any worker."""
    with reading() as db:
        return set(db.scalars(select(RevokedToken.jti).where(RevokedToken.revoked_at > moment)))


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
    def check_csrf_is_ascii() -> None:
        # The extension compares it by hmac.compare_digest(), which takes nothing else.
        if not request.headers.get("X-CSRF-TOKEN", "").isascii():
            raise CsrfFailed


@jwt.token_in_blocklist_loader
def is_revoked(_header: Claims, claims: Claims) -> bool:
    """Ask the blocklist. A database error is not caught: it becomes 503, never a pass."""
    with reading() as db:
        return db.scalar(_revoked, {"jti": claims["jti"]}) is not None


@jwt.token_verification_loader
def is_current(_header: Claims, claims: Claims) -> bool:
    """Expiry without the leeway, which is meant for clocks that are ahead (``iat``, ``nbf``)."""
    return expiry(claims) > now()


@jwt.token_verification_failed_loader
@jwt.expired_token_loader
def on_expired(_header: Claims, _claims: Claims) -> Response:
    return response_to(TokenExpired())


@jwt.revoked_token_loader
def on_revoked(_header: Claims, _claims: Claims) -> Response:
    return response_to(TokenRevoked())


@jwt.invalid_token_loader
def on_invalid(_reason: str) -> Response:
    return response_to(InvalidToken())


@jwt.unauthorized_loader
def on_missing(_reason: str) -> Response:
    return response_to(NotAuthenticated())
