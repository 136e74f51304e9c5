"""What accounts look like over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec


class Credentials(msgspec.Struct, forbid_unknown_fields=True):
    username: str
    password: str


class LoginRequest(Credentials):
    #: ``cookie`` puts the token in an HttpOnly cookie, out of reach of the page's scripts.
    session: Literal["token", "cookie"] = "token"


class Account(msgspec.Struct, frozen=True):
    id: int
    username: str


class LoggedIn(msgspec.Struct):
    #: Seconds that the token works from now.
    expires_in: int
    user: Account
    token: str | msgspec.UnsetType = msgspec.UNSET


class Profile(msgspec.Struct):
    id: int
    username: str
    display_name: str
    created_at: datetime


class LoggedOut(msgspec.Struct):
    revoked: int
