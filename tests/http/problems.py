"""What every error over HTTP looks like (RFC 9457)."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse


def problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The body, once it was seen to be a problem of this status and code."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    body: dict[str, Any] = answer.get_json()
    assert body["status"] == status
    assert body["code"] == code
    assert set(body) - {"errors"} == {"title", "status", "detail", "code"}
    assert body["title"]
    assert body["detail"]
    assert status != 401 or answer.headers["WWW-Authenticate"] == "Bearer"
    for sentences in body.get("errors", {}).values():
        assert all(isinstance(sentence, str) and sentence for sentence in sentences)
    return body
