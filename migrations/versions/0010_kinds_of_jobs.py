"""Kinds of jobs, what a job is about beside its paper, queues of a worker; comes after 0009."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    # The default stays: workers and commands of the version before queue reviews without a kind.
    op.add_column("job", sa.Column("kind", sa.Text(), nullable=False, server_default="review"))
    op.add_column("job", sa.Column("about", JSON, nullable=True))
    op.add_column("worker_node", sa.Column("queues", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("worker_node", "queues")
    op.drop_column("job", "about")
    op.drop_column("job", "kind")
