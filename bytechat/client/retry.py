"""What follows from the end of a connection: wait and try again, or give up."""

from __future__ import annotations

import random

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI

from .errors import ClientBug, Forbidden, GaveUp, SignInAgain
from .shapes import Problem

FIRST_WAIT = 0.5
LONGEST_WAIT = 15.0

#: Close codes and statuses after which the same would only happen again.
FATAL: dict[int, type[GaveUp]] = {
    1002: ClientBug,
    1007: ClientBug,
    1009: ClientBug,
    4401: SignInAgain,
    4403: Forbidden,
    400: ClientBug,
    401: SignInAgain,
    403: Forbidden,
    426: ClientBug,
}

#: As 4403 over HTTP: such a token has the status 401, but to sign in again would not help.
ACCOUNT_DISABLED = "account_disabled"

#: Seconds to stay away at least.
AT_LEAST = {4400: 60.0, 4429: 5.0}

_NO_CLOSE_FRAME = 1006  # RFC 6455, section 7.1.5


class Backoff:
    """Pauses that grow, partly random: many clients of one server do not come back together."""

    def __init__(self, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT) -> None:
        self._first = first
        self._longest = longest
        self._step = first

    def reset(self) -> None:
        self._step = self._first

    def next(self) -> float:
        """Seconds."""
        step, self._step = self._step, min(self._step * 2, self._longest)
        return random.uniform(step / 2, step)  # noqa: S311 (no secret)


class End(msgspec.Struct):
    """How a connection ended."""

    reason: str
    #: The close code, or the HTTP status; None if there was neither.
    code: int | None = None
    #: Seconds that the server asked for.
    retry_after: float | None = None
    #: Whether the server gave each client another time, so that nothing need be added.
    jittered: bool = False
    fatal: GaveUp | None = None


def wait_after(end: End, backoff: Backoff) -> float:
    """Seconds until the next try."""
    if end.jittered and end.retry_after is not None:
        return end.retry_after
    wait = max(backoff.next(), AT_LEAST.get(end.code or 0, 0.0))
    return wait if end.retry_after is None else end.retry_after + wait


def judge(error: Exception, goodbye: float | None = None) -> End:
    """What an exception of the connection means; ``goodbye`` is the retry_after of that frame."""
    if isinstance(error, ConnectionClosed):
        # What came from the server counts, else what was found here (1009, or no answer to a ping).
        close = error.rcvd or error.sent
        code = close.code if close else _NO_CLOSE_FRAME
        reason = f"closed with {code}" + (f" ({close.reason})" if close and close.reason else "")
        end = End(reason, code, goodbye, jittered=goodbye is not None)
        if fatal := FATAL.get(code):
            end.fatal = fatal(f"The connection was {reason}.", close_code=code)
        return end
    if isinstance(error, InvalidStatus):
        return _refused(error)
    if isinstance(error, msgspec.DecodeError):
        return End("strange frame", fatal=ClientBug(f"The server sent a strange frame: {error}"))
    if isinstance(error, InvalidURI):
        return End("bad address", fatal=ClientBug(str(error)))
    return End(str(error) or type(error).__name__)


def _refused(error: InvalidStatus) -> End:
    """The server answered with plain HTTP instead of a socket."""
    status = error.response.status_code
    try:
        problem = msgspec.json.decode(error.response.body or b"{}", type=Problem)
    except msgspec.DecodeError:
        problem = Problem()
    end = End(f"HTTP {status}" + (f", {problem.code}" if problem.code else ""), status)
    if fatal := Forbidden if problem.code == ACCOUNT_DISABLED else FATAL.get(status):
        detail = f"The server answered {end.reason}. {problem.detail}".strip()
        end.fatal = fatal(detail, status=status, code=problem.code)
    seconds = error.response.headers.get("Retry-After", "")
    if seconds.isascii() and seconds.isdigit():
        end.retry_after = float(seconds)
    return end
