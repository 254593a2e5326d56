"""Where training papers come from, what cleaning said of them, and inputs of jobs that are not the
paper itself, as tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.column_types import Base, CleanJson, Id, check, now, partial_index


class Origin(Base):
    """A paper's name at a source of training data; one text may have several."""

    __tablename__ = "origin"
    __table_args__ = (
        UniqueConstraint("source", "source_id"),
        check("source", "source <> '' AND source_id <> ''"),
        Index("ix_origin_paper", "paper_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    source: Mapped[str]
    source_id: Mapped[str]
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id"))
    #: As the source states it, or "none stated".
    licence: Mapped[str]
    imported_at: Mapped[float] = mapped_column(default=now())


class DataFlag(Base):
    """What a cleaning rule found in a paper, or in one review of it; nothing is ever deleted."""

    __tablename__ = "data_flag"
    __table_args__ = (
        check("rule", "rule <> ''"),
        partial_index(
            "uq_data_flag_paper", "paper_id", "rule", where="review_id IS NULL", unique=True
        ),
        UniqueConstraint("review_id", "rule"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"))
    review_id: Mapped[int | None] = mapped_column(ForeignKey("review.id", ondelete="CASCADE"))
    rule: Mapped[str]
    #: Keeps the whole review, or paper, out of training; else only what `detail` names.
    excludes: Mapped[bool]
    #: {"reason": sentence, "spans": [[start, end)] of the review's text that are left out}
    detail: Mapped[Any] = mapped_column(CleanJson, nullable=False)


class JobInput(Base):
    """What a job's model reads in the paper's place: a merger reads the paper's human reviews."""

    __tablename__ = "job_input"
    __table_args__ = (
        check("sha256", "length(sha256) = 64"),
        Index("ix_job_input_sha256", "sha256"),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str]
    text: Mapped[str]
