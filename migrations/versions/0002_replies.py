"""A message may answer another one.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-22
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In a batch: SQLite adds no constraint to a table that is there, and copies it instead.
    with op.batch_alter_table("messages") as messages:
        messages.add_column(
            sa.Column("reply_to", sa.BigInteger().with_variant(sa.Integer(), "sqlite"))
        )
        messages.create_foreign_key(
            "fk_messages_reply_to_messages", "messages", ["reply_to"], ["id"]
        )


def downgrade() -> None:
    with op.batch_alter_table("messages") as messages:
        messages.drop_constraint("fk_messages_reply_to_messages", type_="foreignkey")
        messages.drop_column("reply_to")
