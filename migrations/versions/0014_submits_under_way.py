"""Submits that are under way, so that no other one ends their batch; comes after 0013."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "open_submit",
        sa.Column("id", ID, nullable=False),
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("outlived", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_open_submit"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_open_submit_batch_id_batch"),
    )
    op.create_index("ix_open_submit_batch_id", "open_submit", ["batch_id"])


def downgrade() -> None:
    op.drop_table("open_submit")
