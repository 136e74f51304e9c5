"""Commands for administrators: ``flask users ...``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
from flask.cli import AppGroup

from .auth import accounts
from .chat.runtime import current_runtime
from .errors import ApiError, from_database

users = AppGroup("users", help="Shut accounts out, and let them in again.")


@users.command()
@click.argument("name")
def disable(name: str) -> None:
    """Shut the account NAME out.

    It can no longer sign in, all its tokens stop working at once, and its open sockets are closed
    within about a second. What it has said stays.
    """
    with _errors_in_one_line():
        count = accounts.disable(name)
    with suppress(Exception):  # then the workers find it in the database, within a second
        current_runtime().neighbours.bus.flush()
    click.echo(f"{name} is disabled. Sign-ins that have ended: {count}.")


@users.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let the account NAME sign in again.

    The tokens that it had before do not work again.
    """
    with _errors_in_one_line():
        accounts.enable(name)
    click.echo(f"{name} is enabled.")


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """What an administrator can do something about is no traceback."""
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, ApiError) else from_database(error)
        if known is None:
            raise
        raise click.ClickException(known.detail) from None
