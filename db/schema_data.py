"""Tables of training data: origins and flags of papers, and job inputs other than the paper."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.column_types import Base, CleanJson, Id, check, now, partial_index


class Origin(Base):
    """A paper's id at a source of training data; one text may have several."""

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
    """What a cleaning rule found in a paper or in one of its reviews; the data itself is kept."""

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
    #: True excludes the whole review or paper from training, else only the spans of `detail`.
    excludes: Mapped[bool]
    #: {"reason": sentence, "spans": [[start, end)] of the review's text}
    detail: Mapped[Any] = mapped_column(CleanJson, nullable=False)


class JobInput(Base):
    """A job's input in place of the paper, such as the human reviews that a merger reads."""

    __tablename__ = "job_input"
    __table_args__ = (
        check("sha256", "length(sha256) = 64"),
        Index("ix_job_input_sha256", "sha256"),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str]
    text: Mapped[str]
