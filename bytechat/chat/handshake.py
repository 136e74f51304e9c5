"""What is checked before a socket is opened, so that a refusal is a plain HTTP answer."""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass

from flask import current_app, request
from flask_jwt_extended import verify_jwt_in_request

from ..auth import accounts
from ..auth.schemas import Account
from ..config import Settings
from ..errors import BadHandshake, ForbiddenOrigin, UpgradeRequired
from ..storage import reading
from . import rooms
from .rooms import Crowds
from .schemas import Room

VERSION = "13"

#: Of the Sec-WebSocket-Key, decoded (RFC 6455, section 4.1).
NONCE_BYTES = 16


@dataclass(slots=True)
class Admission:
    """Who may come in, and to which rooms. A guest has neither token nor session."""

    user: Account
    rooms: list[Room]
    #: Seconds of the epoch.
    expires_at: float
    token: str | None = None
    session: int = 0


def check(settings: Settings, crowds: Crowds) -> Admission:
    """Decide on this request's wish for a socket.

    Raises BadHandshake, UpgradeRequired, ForbiddenOrigin, TokenRevoked, TokenDisabled,
    and what flask-jwt-extended raises for a token that is missing or bad.
    """
    _check_headers()
    _check_origin(settings)
    verified = verify_jwt_in_request(
        optional=settings.guests and not _has_credentials(),
        locations=["headers", "query_string", "cookies"],
        skip_revocation_check=True,  # that is asked below, in the one statement
    )
    if verified is None:
        return _admit_guest(settings)
    _header, claims = verified
    jti, session_id = claims["jti"], claims["sid"]
    with reading() as db:
        found = rooms.admitted_by(db, int(claims["sub"]), session_id, jti, crowds)
    return Admission(*found, token=jti, session=session_id, expires_at=claims["exp"])


def _has_credentials() -> bool:
    """Whether the request means to be somebody; one that cannot be read makes no guest of them."""
    cookie = current_app.config["JWT_ACCESS_COOKIE_NAME"]
    return (
        "Authorization" in request.headers or "token" in request.args or cookie in request.cookies
    )


def _check_headers() -> None:
    """The client's part of RFC 6455, section 4.2.1, of which the library answers 500."""
    headers = request.headers
    if request.method != "GET" or request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        raise BadHandshake("A handshake is a GET of HTTP/1.1.")
    if not headers.get("Host") or not headers["Host"].isascii():
        raise BadHandshake("A handshake has a Host header, in ASCII.")
    if not headers.get("Sec-WebSocket-Protocol", "").isascii():
        raise BadHandshake("Sec-WebSocket-Protocol must be in ASCII.")
    if headers.get("Sec-WebSocket-Version", "").strip() != VERSION:
        raise UpgradeRequired(headers={"Upgrade": "websocket", "Sec-WebSocket-Version": VERSION})
    try:
        nonce = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != NONCE_BYTES:
        raise BadHandshake("Sec-WebSocket-Key must be 16 bytes in base64.")


def _check_origin(settings: Settings) -> None:
    """Browsers send the cookie with a socket that any site opens; but they also say which site.

    The host is compared and not the scheme, which a proxy that ends TLS may hide from us.
    """
    origin = request.headers.get("Origin", "").lower()
    if not origin or origin in settings.origins:
        return
    if origin.partition("://")[2] != request.headers["Host"].lower():
        raise ForbiddenOrigin


def _admit_guest(settings: Settings) -> Admission:
    guest = accounts.admit_guest()
    expires_at = time.time() + settings.token_hours * 3600
    with reading() as db:
        lobby = rooms.lobby(db)
    return Admission(guest, [lobby], expires_at=expires_at)
