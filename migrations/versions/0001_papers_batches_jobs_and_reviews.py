"""Papers, reviewers, batches, jobs, reviews and workers; comes after the empty database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "paper",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("abstract", sa.Text(), nullable=False),
        sa.Column("sections", JSON, nullable=False),
        sa.Column("flags", JSON, nullable=False),
        sa.Column("n_flags", sa.Integer(), nullable=False),
        sa.Column("venue", sa.Text(), nullable=True),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("version_choice", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_paper_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_paper")),
        sa.UniqueConstraint("sha256", name=op.f("uq_paper_sha256")),
    )
    op.create_index(
        "ix_paper_flagged",
        "paper",
        ["id"],
        sqlite_where=sa.text("n_flags > 0"),
        postgresql_where=sa.text("n_flags > 0"),
    )

    op.create_table(
        "reviewer",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('local', 'api', 'human', 'merged', 'imported')", name=op.f("ck_reviewer_kind")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_reviewer_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviewer")),
        sa.UniqueConstraint("name", "sha256", name=op.f("uq_reviewer_name_sha256")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_reviewer_name_version")),
    )
    op.create_table(
        "worker_node",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("gpu", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.Text(), nullable=True),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('active', 'draining')", name=op.f("ck_worker_node_state")),
        sa.CheckConstraint("slots >= 0", name=op.f("ck_worker_node_slots")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker_node")),
    )
    op.create_table(
        "batch",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reviewer_id", ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("deadline_seconds", sa.Double(), nullable=True),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("allow_external", sa.Boolean(), nullable=False),
        sa.Column("options_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint("name <> ''", name=op.f("ck_batch_name")),
        sa.CheckConstraint(
            "state IN ('validating', 'in_progress', 'finalizing', 'completed', "
            "'failed', 'expired', 'cancelling', 'cancelled')",
            name=op.f("ck_batch_state"),
        ),
        sa.CheckConstraint("priority IN (0, 1, 2)", name=op.f("ck_batch_priority")),
        sa.CheckConstraint("samples >= 1", name=op.f("ck_batch_samples")),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["reviewer.id"], name=op.f("fk_batch_reviewer_id_reviewer")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("name", name=op.f("uq_batch_name")),
    )
    op.create_table(
        "job",
        sa.Column("id", ID, nullable=False),
        sa.Column("batch_id", ID, nullable=False),
        sa.Column(
            "custom_id",
            sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("paper_id", ID, nullable=True),
        sa.Column("duplicate_of", ID, nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("reviewer_id", ID, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("deadline_at", sa.Double(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("given_back", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("n_prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("n_output_tokens", sa.Integer(), nullable=True),
        sa.Column("truncated_tokens", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(state = 'failed') = (error_kind IS NOT NULL)", name=op.f("ck_job_error")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (lease_until IS NOT NULL)", name=op.f("ck_job_lease")
        ),
        sa.CheckConstraint(
            "(state IN ('queued', 'running')) = (finished_at IS NULL)", name=op.f("ck_job_finished")
        ),
        sa.CheckConstraint(
            "NOT (cancel_requested AND state = 'queued')", name=op.f("ck_job_cancel")
        ),
        sa.CheckConstraint("custom_id <> ''", name=op.f("ck_job_custom_id")),
        sa.CheckConstraint(
            "duplicate_of IS NULL OR (duplicate_of <> id AND state <> 'running')",
            name=op.f("ck_job_duplicate"),
        ),
        sa.CheckConstraint("paper_id IS NOT NULL OR state = 'failed'", name=op.f("ck_job_paper")),
        sa.CheckConstraint("state <> 'running' OR worker IS NOT NULL", name=op.f("ck_job_worker")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_job_state"),
        ),
        sa.CheckConstraint(
            "attempt >= 0 AND given_back >= 0 AND given_back <= attempt",
            name=op.f("ck_job_attempt"),
        ),
        sa.CheckConstraint("priority IN (0, 1, 2)", name=op.f("ck_job_priority")),
        sa.CheckConstraint("sample >= 0", name=op.f("ck_job_sample")),
        sa.CheckConstraint("seed >= 0 AND seed < 2147483648", name=op.f("ck_job_seed")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_job_batch_id_batch")),
        sa.ForeignKeyConstraint(["duplicate_of"], ["job.id"], name=op.f("fk_job_duplicate_of_job")),
        sa.ForeignKeyConstraint(["paper_id"], ["paper.id"], name=op.f("fk_job_paper_id_paper")),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["reviewer.id"], name=op.f("fk_job_reviewer_id_reviewer")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint(
            "batch_id", "custom_id", "sample", name=op.f("uq_job_batch_id_custom_id_sample")
        ),
    )
    op.create_index(
        "ix_job_claim",
        "job",
        ["queue", "priority", "deadline_at", "id"],
        sqlite_where=sa.text(
            "state = 'queued' AND duplicate_of IS NULL AND NOT held AND priority >= 0"
        ),
        postgresql_where=sa.text(
            "state = 'queued' AND duplicate_of IS NULL AND NOT held AND priority >= 0"
        ),
    )
    op.create_index(
        "ix_job_claim_loaded",
        "job",
        ["reviewer_id", "priority", "deadline_at", "id"],
        sqlite_where=sa.text(
            "state = 'queued' AND duplicate_of IS NULL AND NOT held AND reviewer_id > 0"
        ),
        postgresql_where=sa.text(
            "state = 'queued' AND duplicate_of IS NULL AND NOT held AND reviewer_id > 0"
        ),
    )
    op.create_index("ix_job_custom_id", "job", ["custom_id"])
    op.create_index(
        "ix_job_duplicate",
        "job",
        ["duplicate_of"],
        sqlite_where=sa.text("duplicate_of IS NOT NULL"),
        postgresql_where=sa.text("duplicate_of IS NOT NULL"),
    )
    op.create_index(
        "ix_job_lease",
        "job",
        ["lease_until"],
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_job_paper", "job", ["paper_id"])
    op.create_index("ix_job_progress", "job", ["batch_id", "state"])
    op.create_index(
        "uq_job_original",
        "job",
        ["batch_id", "sample", "paper_id"],
        unique=True,
        sqlite_where=sa.text("duplicate_of IS NULL AND paper_id IS NOT NULL"),
        postgresql_where=sa.text("duplicate_of IS NULL AND paper_id IS NOT NULL"),
    )

    op.create_table(
        "job_event",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("detail", JSON, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_event_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_event")),
    )
    op.create_index("ix_job_event_job", "job_event", ["job_id", "id"])

    op.create_table(
        "review",
        sa.Column("id", ID, nullable=False),
        sa.Column("paper_id", ID, nullable=False),
        sa.Column("reviewer_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("rating", sa.Double(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("is_meta", sa.Boolean(), nullable=False),
        sa.Column("fields", JSON, nullable=True),
        sa.Column("adapter_sha256", sa.Text(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=True),
        sa.Column("n_prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("n_output_tokens", sa.Integer(), nullable=True),
        sa.Column("truncated_tokens", sa.Integer(), nullable=True),
        sa.Column("finish", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("empty_aspects", JSON, nullable=False),
        sa.Column("gate", JSON, nullable=False),
        sa.Column("versions", JSON, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("unplaced", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "finish IS NULL OR finish IN ('stop', 'length', 'cancelled')",
            name=op.f("ck_review_finish"),
        ),
        sa.CheckConstraint(
            "n_prompt_tokens >= 0 AND n_output_tokens >= 0 AND truncated_tokens >= 0",
            name=op.f("ck_review_tokens"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_review_job_id_job")),
        sa.ForeignKeyConstraint(["paper_id"], ["paper.id"], name=op.f("fk_review_paper_id_paper")),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["reviewer.id"], name=op.f("fk_review_reviewer_id_reviewer")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("job_id", name=op.f("uq_review_job_id")),
        sa.UniqueConstraint(
            "reviewer_id",
            "paper_id",
            "external_id",
            name=op.f("uq_review_reviewer_id_paper_id_external_id"),
        ),
    )
    op.create_index("ix_review_paper", "review", ["paper_id"])

    op.create_table(
        "item",
        sa.Column("id", ID, nullable=False),
        sa.Column("review_id", ID, nullable=False),
        sa.Column("aspect", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_item_position")),
        sa.ForeignKeyConstraint(
            ["review_id"], ["review.id"], name=op.f("fk_item_review_id_review"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item")),
        sa.UniqueConstraint(
            "review_id", "aspect", "position", name=op.f("uq_item_review_id_aspect_position")
        ),
    )


def downgrade() -> None:
    op.drop_table("item")
    op.drop_table("review")
    op.drop_table("job_event")
    op.drop_table("job")
    op.drop_table("batch")
    op.drop_table("worker_node")
    op.drop_table("reviewer")
    op.drop_table("paper")
