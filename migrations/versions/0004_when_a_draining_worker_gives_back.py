"""When a draining worker gives back what it still runs; comes after 0003."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("worker_node") as table:
        table.add_column(sa.Column("give_back_at", sa.Double(), nullable=True))
        table.create_check_constraint(
            op.f("ck_worker_node_give_back"), "give_back_at IS NULL OR state = 'draining'"
        )


def downgrade() -> None:
    with op.batch_alter_table("worker_node") as table:
        table.drop_constraint(op.f("ck_worker_node_give_back"), type_="check")
        table.drop_column("give_back_at")
