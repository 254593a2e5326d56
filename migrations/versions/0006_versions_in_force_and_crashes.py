"""Which reviewer versions are in force; crashes that a job was in; comes after 0005."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_CLAIMABLE_BY_REVIEWER = sa.text(
    "state = 'queued' AND duplicate_of IS NULL AND NOT held AND reviewer_id > 0"
)


def upgrade() -> None:
    # SQLite would add the column to the line of the last one, where the models do not write it.
    copied: Literal["always", "auto"] = (
        "always" if op.get_bind().dialect.name == "sqlite" else "auto"
    )
    with op.batch_alter_table("reviewer", recreate=copied) as table:
        table.add_column(sa.Column("in_force_at", sa.Double(), nullable=True))
    op.execute("UPDATE reviewer SET in_force_at = created_at")
    # Adapters of different rows run side by side: no worker looks for its own reviewer's jobs.
    op.drop_index("ix_job_claim_loaded", table_name="job")
    none, no = sa.text("0"), sa.false()
    with op.batch_alter_table("job") as table:
        table.add_column(sa.Column("crashes", sa.Integer(), nullable=False, server_default=none))
        table.add_column(
            sa.Column("crashes_alone", sa.Integer(), nullable=False, server_default=none)
        )
        table.add_column(sa.Column("alone", sa.Boolean(), nullable=False, server_default=no))
    with op.batch_alter_table("job") as table:
        # Only the rows that were there needed a value.
        table.alter_column("crashes", server_default=None)
        table.alter_column("crashes_alone", server_default=None)
        table.alter_column("alone", server_default=None)
        table.create_check_constraint(
            op.f("ck_job_crashes"), "crashes_alone >= 0 AND crashes_alone <= crashes"
        )


def downgrade() -> None:
    with op.batch_alter_table("job") as table:
        table.drop_constraint(op.f("ck_job_crashes"), type_="check")
        table.drop_column("alone")
        table.drop_column("crashes_alone")
        table.drop_column("crashes")
    op.create_index(
        "ix_job_claim_loaded",
        "job",
        ["reviewer_id", "priority", "deadline_at", "id"],
        sqlite_where=_CLAIMABLE_BY_REVIEWER,
        postgresql_where=_CLAIMABLE_BY_REVIEWER,
    )
    with op.batch_alter_table("reviewer") as table:
        table.drop_column("in_force_at")
