"""What attention a worker uses, and how much memory of its GPU; comes after 0011."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("worker_node", sa.Column("attention", sa.Text(), nullable=True))
    op.add_column("worker_node", sa.Column("gpu_memory_gib", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("worker_node", "gpu_memory_gib")
    op.drop_column("worker_node", "attention")
