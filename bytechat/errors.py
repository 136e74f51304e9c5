"""Every error, in one place: its code, its status, and how it looks over HTTP (RFC 9457)."""

from __future__ import annotations

import logging
import re
from typing import ClassVar

import msgspec
import psycopg2
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.routing.exceptions import WebsocketMismatch

log = logging.getLogger(__name__)

#: PostgreSQL's codes of a database that is read-only (a failover) or has no tables yet.
NOT_READY = {"25006", "42P01"}

PROBLEM_TYPE = "application/problem+json"


class ApiError(Exception):
    """Something that the caller must be told.

    ``detail`` says in one sentence what is wrong and what to do; ``errors`` are sentences by field;
    ``retry_after`` is in seconds.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str = "",
        *,
        errors: dict[str, list[str]] | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail or f"{self.title}."
        self.errors = errors
        self.retry_after = retry_after
        self.headers = headers or {}


class MalformedJson(ApiError):
    status, code, title = 400, "malformed_json", "This is not valid JSON"


class BadHandshake(ApiError):
    status, code, title = 400, "bad_handshake", "This is not a valid WebSocket handshake"


class NotAuthenticated(ApiError):
    status, code, title = 401, "not_authenticated", "A token is needed"


class InvalidToken(ApiError):
    status, code, title = 401, "invalid_token", "This token is not valid"


class TokenExpired(ApiError):
    status, code, title = 401, "token_expired", "This token has expired; sign in again"


class TokenRevoked(ApiError):
    status, code, title = 401, "token_revoked", "This token was signed out; sign in again"


class CsrfFailed(ApiError):
    status, code, title = 401, "csrf_failed", "The X-CSRF-TOKEN header is missing or wrong"


class InvalidCredentials(ApiError):
    status, code, title = 401, "invalid_credentials", "The name or the password is wrong"


class AccountDisabled(ApiError):
    status, code, title = 403, "account_disabled", "This account is disabled"


class TokenDisabled(AccountDisabled):
    """The same about a token: what does not prove who one is has the status 401."""

    status = 401


class ForbiddenOrigin(ApiError):
    status, code, title = 403, "forbidden_origin", "Pages of this origin may not open sockets here"


class RegistrationClosed(ApiError):
    status, code, title = 403, "registration_closed", "Registration is closed here"


class NotFound(ApiError):
    status, code, title = 404, "not_found", "There is nothing here that you may see"


class RequestTimedOut(ApiError):
    status, code, title = 408, "request_timeout", "The request's body took too long to arrive"


class UsernameTaken(ApiError):
    status, code, title = 409, "username_taken", "This name is taken"


class TooLarge(ApiError):
    status, code, title = 413, "too_large", "This is too large"


class NotJson(ApiError):
    status, code, title = 415, "not_json", "Send JSON, with Content-Type: application/json"


class Invalid(ApiError):
    status, code, title = 422, "validation", "Some of the values are not valid"


class UnknownType(ApiError):
    status, code, title = 422, "unknown_type", "There is no such type of frame"


class UpgradeRequired(ApiError):
    status, code, title = 426, "upgrade_required", "This address speaks WebSocket, version 13"


class TooBusy(ApiError):
    status, code, title = 429, "busy", "Too much is waiting; send it again in a moment"


class Internal(ApiError):
    status, code, title = 500, "internal", "Something went wrong here"


class Unavailable(ApiError):
    status, code, title = (
        503,
        "unavailable",
        "A part that this needs is down; try again in a moment",
    )


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of every error over HTTP."""

    title: str
    status: int
    detail: str
    code: str
    errors: dict[str, list[str]] | None = None


def problem_response(problem: Problem, headers: dict[str, str]) -> Response:
    """The answer with this body."""
    return Response(
        msgspec.json.encode(problem),
        status=problem.status,
        headers=headers,
        content_type=PROBLEM_TYPE,
    )


def response_to(error: ApiError) -> Response:
    """The error over HTTP."""
    headers = dict(error.headers)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 11.6.1
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    problem = Problem(error.title, error.status, error.detail, error.code, error.errors)
    return problem_response(problem, headers)


def from_database(error: Exception) -> ApiError | None:
    """What a database error means to the caller: down, full or too slow; None if it is our fault.

    An IntegrityError or a wrong statement is not among them: whoever can meet one handles it.
    """
    lost = isinstance(error, DBAPIError) and (
        error.connection_invalidated or getattr(error.orig, "pgcode", "") in NOT_READY
    )
    # Not wrapped by SQLAlchemy where a connection is lost on its way back to the pool.
    raw = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    if lost or raw or isinstance(error, (OperationalError, InterfaceError, PoolTimeoutError)):
        return Unavailable("The database does not answer; try again in a moment.", retry_after=2)
    return None


def init_app(app: Flask) -> None:
    """Give every error one shape, those of Flask and of the database included."""
    app.register_error_handler(ApiError, response_to)
    app.register_error_handler(HTTPException, _from_werkzeug)
    app.register_error_handler(WebsocketMismatch, _wrong_protocol)
    app.register_error_handler(Exception, _unexpected)


def _from_werkzeug(error: HTTPException) -> ResponseReturnValue:
    if isinstance(error, RequestRedirect) or error.code is None:
        return error.get_response()
    ours: dict[int, type[ApiError]] = {cls.status: cls for cls in (NotFound, TooLarge, NotJson)}
    if error.code in ours:
        return response_to(ours[error.code]())
    code = re.sub(r"\W+", "_", error.name).lower()
    problem = Problem(error.name, error.code, error.description or error.name, code)
    allow = {name: value for name, value in error.get_headers() if name == "Allow"}
    return problem_response(problem, allow)


def _wrong_protocol(_error: WebsocketMismatch) -> Response:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return response_to(BadHandshake("There is no WebSocket at this address."))
    return response_to(UpgradeRequired(headers={"Upgrade": "websocket"}))


def _unexpected(error: Exception) -> Response:
    if unavailable := from_database(error):
        log.warning("the database failed a request", extra={"error": type(error).__name__})
        return response_to(unavailable)
    log.error("a request failed", exc_info=error)
    return response_to(Internal())
