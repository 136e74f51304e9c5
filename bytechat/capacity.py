"""Whether PostgreSQL allows as many connections as the workers may open: asked once, at the start.

gunicorn's master imports this, so nothing here may need what gevent patches: a child process asks.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from logging import Logger
from typing import NamedTuple

from .config import Settings

#: Seconds that PostgreSQL has to answer. A start does not wait for a database that is away.
SECONDS = 5

_LIMITS = """
    SELECT current_setting('max_connections')::int,
        current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true), '0')::int,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)
    """


class Limits(NamedTuple):
    """Connections: of the whole server, those of them for superusers; -1 is no limit."""

    server: int
    reserved: int
    database: int = -1
    user: int = -1

    @property
    def allowed(self) -> int:
        """How many the workers can have, if nobody else has any."""
        others = [limit for limit in (self.database, self.user) if limit >= 0]
        return min([self.server - self.reserved, *others])


def check(settings: Settings, log: Logger) -> None:
    """End the start if the workers' connections do not fit; warn if they do not fit twice.

    Nothing is said when PostgreSQL cannot be asked: who needs it will say so.
    """
    if settings.on_sqlite:
        return
    child = os.fork()
    if not child:
        code = 0
        try:
            signal.alarm(SECONDS)  # ends the child
            code = _compare(settings, _ask(settings.database_url), log)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(os.WEXITSTATUS(status))


def verdict(settings: Settings, limits: Limits) -> tuple[bool, str]:
    """Whether one set of workers fits; and what is to be said, if not even two do."""
    workers, pool = settings.web_concurrency, settings.database_pool
    listening = 0 if settings.bus_url else 1
    needed = workers * (pool + listening)
    allowed = limits.allowed
    if 2 * needed <= allowed:
        return True, ""
    fits = needed <= allowed
    sum_ = f"{workers} x (DATABASE_POOL {pool}{' + 1 that listens' if listening else ''})"
    most = allowed // (2 * workers if fits else workers) - listening
    remedy = f"DATABASE_POOL={most}" if most >= 2 else "a smaller WEB_CONCURRENCY"
    if fits:
        need = f"while workers are replaced they need 2 x {needed} connections, 2 x {sum_}"
    else:
        need = f"the workers need {needed} connections, {sum_}"
    return fits, (
        f"{need}, and PostgreSQL allows {allowed} ({_describe(limits)}): "
        f"set {remedy}, or let PostgreSQL allow more"
    )


def _describe(limits: Limits) -> str:
    parts = [f"max_connections {limits.server} - {limits.reserved} reserved"]
    parts += [f"{limits.database} for the database"] if limits.database >= 0 else []
    parts += [f"{limits.user} for the user"] if limits.user >= 0 else []
    return ", ".join(parts)


def _compare(settings: Settings, limits: Limits | None, log: Logger) -> int:
    """Say what there is to say; the exit code."""
    if limits is None:
        return 0
    fits, sentence = verdict(settings, limits)
    if not fits:
        sys.stderr.write(f"{sentence[0].upper()}{sentence[1:]}.\n")
        sys.stderr.flush()
        return 1
    if sentence:
        log.warning("%s", sentence)
    return 0


def _ask(url: str) -> Limits | None:
    import psycopg2

    try:
        plain = re.sub(r"^(postgres|postgresql\+psycopg2)://", "postgresql://", url)
        with psycopg2.connect(plain, connect_timeout=SECONDS) as connection:
            cursor = connection.cursor()
            cursor.execute(_LIMITS)
            row = cursor.fetchone()
            return Limits(*row) if row else None
    except psycopg2.Error:
        return None
