"""Papers, counts and split uses of comparisons; comes after 0007."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0007"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    # No version before this one writes to these tables: made anew, they lose nothing.
    for table in ("verdict", "point_match", "comparison"):
        op.drop_table(table)
    create_comparison()
    create_compared_paper()
    create_point_match()
    create_match_count()
    create_verdict()
    create_split_use()


def downgrade() -> None:
    for table in (
        "split_use",
        "verdict",
        "match_count",
        "point_match",
        "compared_paper",
        "comparison",
    ):
        op.drop_table(table)
    create_comparison_of_0003()
    create_verdict_of_0003()
    create_point_match_of_0003()


def create_comparison() -> None:
    op.create_table(
        "comparison",
        sa.Column("id", ID, nullable=False),
        sa.Column("a_id", ID, nullable=False),
        sa.Column("b_id", ID, nullable=False),
        sa.Column("reference_id", ID, nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("config_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
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


def create_compared_paper() -> None:
    op.create_table(
        "compared_paper",
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("a_review_id", ID, nullable=False),
        sa.Column("b_review_id", ID, nullable=False),
        sa.Column("reference_review_ids", JSON, nullable=False),
        sa.Column("null_paper_id", ID, nullable=True),
        sa.Column("excluded", sa.Text(), nullable=True),
        sa.Column("matched_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "excluded IS NULL OR excluded IN ('trained_hash', 'trained_source', 'trained_title')",
            name=op.f("ck_compared_paper_excluded"),
        ),
        sa.CheckConstraint(
            "excluded IS NULL OR matched_at IS NULL", name=op.f("ck_compared_paper_matched")
        ),
        sa.ForeignKeyConstraint(
            ["a_review_id"], ["review.id"], name=op.f("fk_compared_paper_a_review_id_review")
        ),
        sa.ForeignKeyConstraint(
            ["b_review_id"], ["review.id"], name=op.f("fk_compared_paper_b_review_id_review")
        ),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparison.id"],
            name=op.f("fk_compared_paper_comparison_id_comparison"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["null_paper_id"], ["paper.id"], name=op.f("fk_compared_paper_null_paper_id_paper")
        ),
        sa.ForeignKeyConstraint(
            ["paper_id"], ["paper.id"], name=op.f("fk_compared_paper_paper_id_paper")
        ),
        sa.PrimaryKeyConstraint("comparison_id", "paper_id", name=op.f("pk_compared_paper")),
    )


def create_point_match() -> None:
    op.create_table(
        "point_match",
        sa.Column("id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("reference_point_id", ID, nullable=False),
        sa.Column("generated_point_id", ID, nullable=False),
        sa.Column("matcher", sa.Text(), nullable=False),
        sa.Column("similarity", sa.Double(), nullable=False),
        sa.Column("matched", sa.Boolean(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.Column("relatedness", sa.Text(), nullable=True),
        sa.Column("specificity", sa.Text(), nullable=True),
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
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["generated_point_id"],
            ["point.id"],
            name=op.f("fk_point_match_generated_point_id_point"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["reference_point_id"],
            ["point.id"],
            name=op.f("fk_point_match_reference_point_id_point"),
            ondelete="CASCADE",
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
    op.create_index("ix_point_match_generated", "point_match", ["generated_point_id"], unique=False)
    op.create_index("ix_point_match_reference", "point_match", ["reference_point_id"], unique=False)


def create_match_count() -> None:
    op.create_table(
        "match_count",
        sa.Column("id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("cut", sa.Text(), nullable=False),
        sa.Column("generated_review_id", ID, nullable=False),
        sa.Column("reference_review_id", ID, nullable=True),
        sa.Column("n_reference", sa.Integer(), nullable=False),
        sa.Column("n_generated", sa.Integer(), nullable=False),
        sa.Column("hits_reference", sa.Integer(), nullable=False),
        sa.Column("hits_generated", sa.Integer(), nullable=False),
        sa.Column("n_pairs", sa.Integer(), nullable=False),
        sa.CheckConstraint("cut IN ('full', 'equal')", name=op.f("ck_match_count_cut")),
        sa.CheckConstraint(
            "role IN ('a', 'b', 'null_a', 'null_b', 'ceiling')", name=op.f("ck_match_count_role")
        ),
        sa.CheckConstraint(
            "hits_generated >= 0 AND hits_generated <= n_generated",
            name=op.f("ck_match_count_generated"),
        ),
        sa.CheckConstraint(
            "hits_reference >= 0 AND hits_reference <= n_reference",
            name=op.f("ck_match_count_reference"),
        ),
        sa.CheckConstraint(
            "n_pairs >= 0 AND n_pairs <= hits_reference AND n_pairs <= hits_generated",
            name=op.f("ck_match_count_pairs"),
        ),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparison.id"],
            name=op.f("fk_match_count_comparison_id_comparison"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["generated_review_id"],
            ["review.id"],
            name=op.f("fk_match_count_generated_review_id_review"),
        ),
        sa.ForeignKeyConstraint(
            ["paper_id"], ["paper.id"], name=op.f("fk_match_count_paper_id_paper")
        ),
        sa.ForeignKeyConstraint(
            ["reference_review_id"],
            ["review.id"],
            name=op.f("fk_match_count_reference_review_id_review"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_match_count")),
        sa.UniqueConstraint(
            "comparison_id",
            "paper_id",
            "role",
            "cut",
            "generated_review_id",
            "reference_review_id",
            name="uq_match_count_review",
        ),
    )
    op.create_index(
        "uq_match_count_union",
        "match_count",
        ["comparison_id", "paper_id", "role", "cut", "generated_review_id"],
        unique=True,
        sqlite_where=sa.text("reference_review_id IS NULL"),
        postgresql_where=sa.text("reference_review_id IS NULL"),
    )


def create_verdict() -> None:
    op.create_table(
        "verdict",
        sa.Column("id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("aspect", sa.Text(), nullable=True),
        sa.Column("shown_first", sa.Text(), nullable=False),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("a_score", sa.Double(), nullable=True),
        sa.Column("b_score", sa.Double(), nullable=True),
        sa.Column("a_items", sa.Integer(), nullable=True),
        sa.Column("b_items", sa.Integer(), nullable=True),
        sa.Column("rationale", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('win', 'tie', 'lose', 'invalid')", name=op.f("ck_verdict_outcome")
        ),
        sa.CheckConstraint(
            "shown_first IN ('a', 'b', 'neither')", name=op.f("ck_verdict_shown_first")
        ),
        sa.CheckConstraint("repetition >= 0", name=op.f("ck_verdict_repetition")),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparison.id"],
            name=op.f("fk_verdict_comparison_id_comparison"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["paper_id"], ["paper.id"], name=op.f("fk_verdict_paper_id_paper")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdict")),
        sa.UniqueConstraint(
            "comparison_id",
            "paper_id",
            "method",
            "aspect",
            "shown_first",
            "repetition",
            name="uq_verdict_aspect",
        ),
    )
    op.create_index(
        "uq_verdict_whole",
        "verdict",
        ["comparison_id", "paper_id", "method", "shown_first", "repetition"],
        unique=True,
        sqlite_where=sa.text("aspect IS NULL"),
        postgresql_where=sa.text("aspect IS NULL"),
    )


def create_split_use() -> None:
    op.create_table(
        "split_use",
        sa.Column("id", ID, nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparison.id"],
            name=op.f("fk_split_use_comparison_id_comparison"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_split_use")),
        sa.UniqueConstraint(
            "split", "comparison_id", name=op.f("uq_split_use_split_comparison_id")
        ),
    )


def create_comparison_of_0003() -> None:
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


def create_verdict_of_0003() -> None:
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


def create_point_match_of_0003() -> None:
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
