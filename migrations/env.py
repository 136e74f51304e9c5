"""Alembic's entry point: migrates the database of the Flask application."""

from __future__ import annotations

import logging

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext
from flask import current_app
from sqlalchemy import text

from bytechat.extensions import Base, db


def run_migrations() -> None:
    """Run them on one connection, in one transaction."""
    options = current_app.extensions["migrate"].configure_args
    with db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # A migration may take long; but it waits for a lock only as long as a request does, as
            # whoever waits for a lock keeps everybody behind it waiting.
            connection.execute(text("SET statement_timeout = 0"))
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            process_revision_directives=skip_empty,
            transactional_ddl=True,  # SQLite too, as our transactions begin with BEGIN IMMEDIATE
            **options,
        )
        with context.begin_transaction():
            context.run_migrations()


def skip_empty(
    _context: MigrationContext, _revision: object, directives: list[MigrationScript]
) -> None:
    """Make no file when `flask db migrate` has found nothing to do."""
    upgrade = directives[0].upgrade_ops
    if getattr(context.config.cmd_opts, "autogenerate", False) and upgrade and upgrade.is_empty():
        directives.clear()
        logging.getLogger("alembic").info("nothing to migrate")


if context.is_offline_mode():
    raise SystemExit("Migrations need the database: run them online.")
run_migrations()
