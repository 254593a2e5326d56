"""How often a job was preempted; comes after 0010."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # The default stays: workers and commands of the version before queue jobs without it.
    op.add_column(
        "job", sa.Column("preemptions", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )


def downgrade() -> None:
    op.drop_column("job", "preemptions")
