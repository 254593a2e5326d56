"""Adapters and the runs that train them; comes after 0001."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "adapter",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("metrics", JSON, nullable=True),
        sa.Column("dataset_sha256", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "state IN ('registered', 'promoted', 'retired')", name=op.f("ck_adapter_state")
        ),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_adapter_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter")),
        sa.UniqueConstraint("sha256", name=op.f("uq_adapter_sha256")),
    )
    op.create_table(
        "adapter_chunk",
        sa.Column("adapter_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "length(data) BETWEEN 1 AND 1048576", name=op.f("ck_adapter_chunk_size")
        ),
        sa.CheckConstraint("position >= 0", name=op.f("ck_adapter_chunk_position")),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name=op.f("fk_adapter_chunk_adapter_id_adapter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_id", "position", name=op.f("pk_adapter_chunk")),
    )
    op.create_table(
        "adapter_paper",
        sa.Column("adapter_id", ID, nullable=False),
        sa.Column("paper_sha256", sa.Text(), nullable=False),
        sa.CheckConstraint("length(paper_sha256) = 64", name=op.f("ck_adapter_paper_paper_sha256")),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name=op.f("fk_adapter_paper_adapter_id_adapter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_id", "paper_sha256", name=op.f("pk_adapter_paper")),
    )
    op.create_table(
        "training_run",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("dataset_sha256", sa.Text(), nullable=False),
        sa.Column("adapter_id", ID, nullable=True),
        sa.Column("versions", JSON, nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'succeeded', 'failed', 'stopped')",
            name=op.f("ck_training_run_state"),
        ),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_training_run_adapter_id_adapter")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_run")),
        sa.UniqueConstraint("name", name=op.f("uq_training_run_name")),
    )
    op.create_table(
        "training_metric",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.CheckConstraint("step >= 0", name=op.f("ck_training_metric_step")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["training_run.id"],
            name=op.f("fk_training_metric_run_id_training_run"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "step", "name", name=op.f("pk_training_metric")),
    )


def downgrade() -> None:
    op.drop_table("training_metric")
    op.drop_table("training_run")
    op.drop_table("adapter_paper")
    op.drop_table("adapter_chunk")
    op.drop_table("adapter")
