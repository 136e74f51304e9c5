"""Tokens as tests read them and send them."""

from __future__ import annotations

from typing import Any

import jwt

from ..support.databases import SECRET


def bearer(token: str) -> dict[str, str]:
    """The headers of who has this token."""
    return {"Authorization": f"Bearer {token}"}


def token_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


def claims_of(headers: dict[str, str]) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token_of(headers), SECRET, algorithms=["HS256"], options={"verify_exp": False}
    )
    return claims
