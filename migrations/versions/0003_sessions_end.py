"""All sessions of an account may be ended, and an account may be disabled.

Sessions from before have no ``jti``. Their tokens end with them all the same, but their open
sockets cannot be found: those last until they are closed otherwise, or the token expires.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-22
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("users", recreate="never") as users:
        users.add_column(sa.Column("disabled_at", sa.DateTime(timezone=True)))
    with op.batch_alter_table("sessions", recreate="never") as sessions:
        sessions.add_column(sa.Column("jti", sa.String(36)))
    with op.batch_alter_table("revoked_tokens", recreate="never") as revoked_tokens:
        # With a default for workers of the version before, which may still be running.
        revoked_tokens.add_column(
            sa.Column("disabled", sa.Boolean(), nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    # Never by a copy on SQLite: to drop the table that was copied deletes, by ON DELETE CASCADE,
    # what belongs to its rows.
    with op.batch_alter_table("revoked_tokens", recreate="never") as revoked_tokens:
        revoked_tokens.drop_column("disabled")
    with op.batch_alter_table("sessions", recreate="never") as sessions:
        sessions.drop_column("jti")
    with op.batch_alter_table("users", recreate="never") as users:
        users.drop_column("disabled_at")
