"""Purged papers, the hashes that a reviewer is pinned to, and workers' complaints; after 0004.

Only adds, so that workers of the version before run on while it happens.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ADDED = (
    ("reviewer", "template_sha256", sa.Text()),
    ("reviewer", "weights_sha256", sa.Text()),
    ("worker_node", "answers", sa.Integer()),
    ("worker_node", "rejections", sa.Integer()),
    ("worker_node", "complaint", sa.Text()),
)


def upgrade() -> None:
    op.create_table(
        "purged_paper",
        sa.Column("paper_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("purged_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["paper_id"], ["paper.id"], name=op.f("fk_purged_paper_paper_id_paper")
        ),
        sa.PrimaryKeyConstraint("paper_id", name=op.f("pk_purged_paper")),
    )
    for table, name, kind in _ADDED:
        # Not in batch mode: SQLite would copy the table, and its writers would wait.
        op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for table, name, _ in reversed(_ADDED):
        op.drop_column(table, name)
    op.drop_table("purged_paper")
