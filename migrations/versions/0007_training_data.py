"""Origins of training papers, flags of the cleaning, inputs of merging jobs; comes after 0006."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "origin",
        sa.Column("id", ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.Double(), nullable=False),
        sa.CheckConstraint("source <> '' AND source_id <> ''", name=op.f("ck_origin_source")),
        sa.ForeignKeyConstraint(["paper_id"], ["paper.id"], name=op.f("fk_origin_paper_id_paper")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_origin")),
        sa.UniqueConstraint("source", "source_id", name=op.f("uq_origin_source_source_id")),
    )
    op.create_index("ix_origin_paper", "origin", ["paper_id"])
    op.create_table(
        "data_flag",
        sa.Column("id", ID, nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("review_id", ID, nullable=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("excludes", sa.Boolean(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.CheckConstraint("rule <> ''", name=op.f("ck_data_flag_rule")),
        sa.ForeignKeyConstraint(
            ["paper_id"],
            ["paper.id"],
            name=op.f("fk_data_flag_paper_id_paper"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["review_id"],
            ["review.id"],
            name=op.f("fk_data_flag_review_id_review"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_flag")),
        sa.UniqueConstraint("review_id", "rule", name=op.f("uq_data_flag_review_id_rule")),
    )
    op.create_index(
        "uq_data_flag_paper",
        "data_flag",
        ["paper_id", "rule"],
        unique=True,
        sqlite_where=sa.text("review_id IS NULL"),
        postgresql_where=sa.text("review_id IS NULL"),
    )
    op.create_table(
        "job_input",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_job_input_sha256")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_input_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_input")),
    )
    op.create_index("ix_job_input_sha256", "job_input", ["sha256"])


def downgrade() -> None:
    for table in ("job_input", "data_flag", "origin"):
        op.drop_table(table)
