"""Flags belong to a job and not to its paper, and are kept with their words; comes after 0012.

Takes `paper.flags` and `paper.n_flags` away. No worker reads them, so workers of the version before
run on; its commands refuse a newer schema when they start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"

#: tests/migration: takes columns away that running workers do not use.
CONTRACTS = True

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_PAPER = sa.table("paper", sa.column("id"), sa.column("flags", JSON), sa.column("n_flags"))
_JOB = sa.table(
    "job",
    *(sa.column(name) for name in ("id", "paper_id", "source", "n_flags")),
    sa.column("flags", JSON),
)
_JOB_FLAG = sa.table(
    "job_flag",
    *(sa.column(n) for n in ("job_id", "position", "kind", "detail", "page", "text")),
)
_SENTENCE = re.compile(r"(\w+): (.*?)(?: \(page (\d+)\))?", re.DOTALL)


def upgrade() -> None:
    op.create_table(
        "job_flag",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("words_sha256", sa.Text(), nullable=True),
        sa.CheckConstraint("position >= 0", name=op.f("ck_job_flag_position")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_flag_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_flag")),
    )
    op.add_column(
        "batch", sa.Column("on_hidden_text", sa.Text(), nullable=False, server_default="strip")
    )
    # The defaults stay: commands of the version before queue jobs without them.
    op.add_column("job", sa.Column("flags", JSON, nullable=False, server_default=sa.text("'[]'")))
    op.add_column(
        "job", sa.Column("n_flags", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    _flags_of_papers_to_jobs(op.get_bind())
    flagged = sa.text("n_flags > 0")
    op.create_index(
        "ix_job_flagged", "job", ["batch_id"], sqlite_where=flagged, postgresql_where=flagged
    )
    op.drop_index("ix_paper_flagged", "paper")
    op.drop_column("paper", "n_flags")
    op.drop_column("paper", "flags")


def downgrade() -> None:
    op.add_column("paper", sa.Column("flags", JSON, nullable=False, server_default=sa.text("'[]'")))
    op.add_column(
        "paper", sa.Column("n_flags", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    _flags_of_jobs_to_papers(op.get_bind())
    flagged = sa.text("n_flags > 0")
    op.create_index(
        "ix_paper_flagged", "paper", ["id"], sqlite_where=flagged, postgresql_where=flagged
    )
    op.drop_index("ix_job_flagged", "job")
    op.drop_column("job", "n_flags")
    op.drop_column("job", "flags")
    op.drop_column("batch", "on_hidden_text")
    op.drop_table("job_flag")


def _flags_of_papers_to_jobs(on: sa.Connection) -> None:
    """A paper has the flags of the file that was stored first; jobs of other files get none."""
    papers = on.execute(sa.select(_PAPER).where(_PAPER.c.n_flags > 0)).all()
    for paper_id, flags, n_flags in papers:
        jobs = _first_file(on, paper_id)
        rows = [row for job_id in jobs for row in _rows(job_id, flags)]
        kinds = list(dict.fromkeys(row["kind"] for row in rows))
        which = _JOB.c.id.in_(jobs)
        on.execute(sa.update(_JOB).where(which).values(flags=kinds, n_flags=n_flags))
        if rows:
            on.execute(sa.insert(_JOB_FLAG), rows)


def _first_file(on: sa.Connection, paper_id: int) -> list[int]:
    jobs = on.execute(
        sa.select(_JOB.c.id, _JOB.c.source).where(_JOB.c.paper_id == paper_id).order_by(_JOB.c.id)
    ).all()
    return [job_id for job_id, source in jobs if source == jobs[0].source]


def _rows(job_id: int, sentences: Iterable[str]) -> Iterator[dict[str, Any]]:
    for position, sentence in enumerate(sentences):
        parts = _SENTENCE.fullmatch(sentence)
        kind, detail, page = parts.groups() if parts else ("flag", sentence, None)
        yield {
            "job_id": job_id,
            "position": position,
            "kind": kind,
            "detail": detail,
            "page": None if page is None else int(page),
            "text": "",
        }


def _flags_of_jobs_to_papers(on: sa.Connection) -> None:
    """A paper gets the flags of its first job."""
    first = sa.select(sa.func.min(_JOB.c.id)).where(_JOB.c.paper_id.is_not(None))
    first = first.group_by(_JOB.c.paper_id)
    jobs = on.execute(
        sa.select(_JOB.c.id, _JOB.c.paper_id, _JOB.c.n_flags).where(
            _JOB.c.id.in_(first), _JOB.c.n_flags > 0
        )
    ).all()
    for job_id, paper_id, n_flags in jobs:
        flags = on.execute(
            sa.select(_JOB_FLAG).where(_JOB_FLAG.c.job_id == job_id).order_by(_JOB_FLAG.c.position)
        ).all()
        sentences = [
            f"{flag.kind}: {flag.detail}" + (f" (page {flag.page})" if flag.page else "")
            for flag in flags
            if flag.detail
        ]
        which = _PAPER.c.id == paper_id
        on.execute(sa.update(_PAPER).where(which).values(flags=sentences, n_flags=n_flags))
