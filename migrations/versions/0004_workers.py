"""Who is online is known to all workers.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-22
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sockets", sa.Integer(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_table(
        "presences",
        sa.Column("worker_id", sa.String(16), nullable=False),
        sa.Column("user_id", BigId, nullable=False),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("rooms", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
            name="fk_presences_worker_id_workers",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("worker_id", "user_id", name="pk_presences"),
    )
    op.create_index("ix_presences_worker_id_version", "presences", ["worker_id", "version"])


def downgrade() -> None:
    op.drop_table("presences")
    op.drop_table("workers")
