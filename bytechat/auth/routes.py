"""Accounts over HTTP."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from flask import Blueprint, Response, make_response, request
from flask.typing import ResponseReturnValue
from flask_jwt_extended import get_jwt, get_jwt_identity, unset_access_cookies
from flask_jwt_extended.config import config as jwt_config

from ..api import encode, endpoint
from ..config import current_settings
from ..errors import Problem, RegistrationClosed, TokenRevoked
from ..models import now
from . import accounts, tokens
from .schemas import Account, Credentials, LoggedIn, LoggedOut, LoginRequest, Profile

blueprint = Blueprint("auth", __name__)


@blueprint.post("/register")
@endpoint(
    public=True,
    body=Credentials,
    answers={201: Account, 403: Problem, 409: Problem, 429: Problem},
    tag="accounts",
)
def register(body: Credentials) -> ResponseReturnValue:
    """Make an account.

    A username has 2 to 32 letters, digits and `_ . -`, and is compared without case; a password
    has at least 6 characters and at most 72 bytes.
    """
    settings = current_settings()
    if not settings.registration:
        raise RegistrationClosed
    account = accounts.register(
        body.username,
        body.password,
        password_min=settings.password_min,
        rounds=settings.bcrypt_rounds,
    )
    return encode(account), 201


@blueprint.post("/login")
@endpoint(
    public=True,
    body=LoginRequest,
    answers={200: LoggedIn, 401: Problem, 403: Problem, 429: Problem},
    tag="accounts",
)
def login(body: LoginRequest) -> ResponseReturnValue:
    """Sign in.

    With `"session": "cookie"` the token comes as an HttpOnly cookie and not in the body; unsafe
    methods then need the value of the cookie `bytechat_csrf` in the header `X-CSRF-TOKEN`.
    """
    settings = current_settings()
    account = accounts.check_credentials(
        body.username, body.password, rounds=settings.bcrypt_rounds
    )
    lifetime = timedelta(hours=settings.token_hours)
    expires_at = now() + lifetime
    token = tokens.open_session(account.id, expires_at)
    answer = LoggedIn(expires_in=int(lifetime.total_seconds()), user=account)
    if body.session == "token":
        answer.token = token
        return encode(answer)
    response = make_response(encode(answer))
    _set_cookies(response, token)
    return response


@blueprint.get("/profile")
@endpoint(answers={200: Profile}, tag="accounts")
def profile() -> ResponseReturnValue:
    """Who this token speaks for."""
    found = accounts.profile(int(get_jwt_identity()))
    if found is None:
        raise TokenRevoked("This account is no longer there.")
    return encode(found)


@blueprint.post("/logout")
@endpoint(answers={200: LoggedOut}, tag="accounts")
def logout() -> ResponseReturnValue:
    """Sign out: the token stops working, and its open sockets are closed with 4401."""
    tokens.revoke(get_jwt())
    return _signed_out(1)


@blueprint.post("/logout/all")
@endpoint(answers={200: LoggedOut}, tag="accounts")
def logout_all() -> ResponseReturnValue:
    """Sign out everywhere: as `POST /logout`, for all tokens of the account, this one included.

    `revoked` is how many sign-ins have ended.
    """
    return _signed_out(tokens.revoke_all(get_jwt()))


def _signed_out(revoked: int) -> Response:
    response = make_response(encode(LoggedOut(revoked)))
    unset_access_cookies(response)
    return response


def _set_cookies(response: Response, token: str) -> None:
    """The extension's own function cannot say Secure for HTTPS requests only."""
    max_age = int(current_settings().token_hours * 3600)
    set_cookie = partial(
        response.set_cookie, max_age=max_age, secure=request.is_secure, samesite="Lax"
    )
    set_cookie(jwt_config.access_cookie_name, token, httponly=True)
    set_cookie(jwt_config.access_csrf_cookie_name, tokens.csrf_of(token))
