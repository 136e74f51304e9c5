"""What can go wrong for a program that uses the client."""

from __future__ import annotations


class ClientError(Exception):
    """All errors of this package."""


class Refused(ClientError):
    """The server said no to one thing; the rest goes on.

    ``code`` is one of docs/http.md. ``status`` is that of HTTP, None for a frame. ``retry_after``
    is in seconds, None if asking again will not help.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Unreachable(ClientError):
    """An HTTP call got no answer, or none that is ByteChat's."""


class Closed(ClientError):
    """The program has closed the client."""


class GaveUp(ClientError):
    """The client has ended, because connecting again would not help.

    ``close_code`` is the socket's, or ``status`` is that of the HTTP answer instead of a socket;
    ``code`` is the server's word for the reason, empty if it gave none.
    """

    def __init__(
        self,
        detail: str,
        *,
        close_code: int | None = None,
        status: int | None = None,
        code: str = "",
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.close_code = close_code
        self.status = status
        self.code = code


class SignInAgain(GaveUp):
    """The token is not valid, was revoked or has expired (4401, HTTP 401)."""


class Forbidden(GaveUp):
    """The account is disabled, or may not be here (4403, HTTP 403, or the code says so)."""


class ClientBug(GaveUp):
    """The two do not understand each other: 1002, 1007, 1009, HTTP 400 or 426, or strange frames.

    The same again would end the same way, so it is for a person to look at.
    """
