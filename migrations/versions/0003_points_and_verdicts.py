"""Points, their matches and verdicts; comes after 0002."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "comparison",
        sa.Column("id", ID, nullable=False),
        sa.Column("a_id", ID, nullable=False),
        sa.Column("b_id", ID, nullable=False),
        sa.Column("reference_id", ID, nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("config_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("a_id <> b_id", name=op.f("ck_comparison_rivals")),
        sa.ForeignKeyConstraint(
            ["a_id"], ["reviewer.id"], name=op.f("fk_comparison_a_id_reviewer")
        ),
        sa.ForeignKeyConstraint(
            ["b_id"], ["reviewer.id"], name=op.f("fk_comparison_b_id_reviewer")
        ),
        sa.ForeignKeyConstraint(
            ["reference_id"], ["reviewer.id"], name=op.f("fk_comparison_reference_id_reviewer")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison")),
        sa.UniqueConstraint(
            "a_id",
            "b_id",
            "reference_id",
            "config_sha256",
            name=op.f("uq_comparison_a_id_b_id_reference_id_config_sha256"),
        ),
    )
    op.create_table(
        "verdict",
        sa.Column("id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("aspect", sa.Text(), nullable=True),
        sa.Column("shown_first", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("rationale", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("outcome IN ('win', 'tie', 'lose')", name=op.f("ck_verdict_outcome")),
        sa.CheckConstraint("shown_first IN ('a', 'b')", name=op.f("ck_verdict_shown_first")),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparison.id"], name=op.f("fk_verdict_comparison_id_comparison")
        ),
        sa.ForeignKeyConstraint(["paper_id"], ["paper.id"], name=op.f("fk_verdict_paper_id_paper")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdict")),
        sa.UniqueConstraint(
            "comparison_id",
            "paper_id",
            "aspect",
            "shown_first",
            name=op.f("uq_verdict_comparison_id_paper_id_aspect_shown_first"),
        ),
    )
    op.create_index(
        "uq_verdict_whole",
        "verdict",
        ["comparison_id", "paper_id", "shown_first"],
        unique=True,
        sqlite_where=sa.text("aspect IS NULL"),
        postgresql_where=sa.text("aspect IS NULL"),
    )

    op.create_table(
        "point",
        sa.Column("id", ID, nullable=False),
        sa.Column("review_id", ID, nullable=False),
        sa.Column("extractor", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("aspect", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_point_position")),
        sa.ForeignKeyConstraint(
            ["review_id"], ["review.id"], name=op.f("fk_point_review_id_review"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_point")),
        sa.UniqueConstraint(
            "review_id", "extractor", "position", name=op.f("uq_point_review_id_extractor_position")
        ),
    )
    op.create_table(
        "point_match",
        sa.Column("id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("reference_point_id", ID, nullable=False),
        sa.Column("generated_point_id", ID, nullable=False),
        sa.Column("matcher", sa.Text(), nullable=False),
        sa.Column("similarity", sa.Double(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.Column("rationale", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "similarity >= 0 AND similarity <= 10", name=op.f("ck_point_match_similarity")
        ),
        sa.CheckConstraint("votes >= 0", name=op.f("ck_point_match_votes")),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparison.id"],
            name=op.f("fk_point_match_comparison_id_comparison"),
        ),
        sa.ForeignKeyConstraint(
            ["generated_point_id"],
            ["point.id"],
            name=op.f("fk_point_match_generated_point_id_point"),
        ),
        sa.ForeignKeyConstraint(
            ["reference_point_id"],
            ["point.id"],
            name=op.f("fk_point_match_reference_point_id_point"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_point_match")),
        sa.UniqueConstraint(
            "comparison_id",
            "reference_point_id",
            "generated_point_id",
            "matcher",
            name="uq_point_match_pair",
        ),
    )
    op.create_index("ix_point_match_generated", "point_match", ["generated_point_id"])


def downgrade() -> None:
    op.drop_table("point_match")
    op.drop_table("point")
    op.drop_table("verdict")
    op.drop_table("comparison")
