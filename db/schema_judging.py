"""Points, their matches and verdicts as tables; knows nothing of how a judge decides."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.columns import CleanJson, Id, now
from db.schema import Base, check, check_one_of, partial_index

Outcome = Literal["win", "tie", "lose"]
ShownFirst = Literal["a", "b"]


class Point(Base):
    """A point that an extractor found in a review; `aspect` is NULL for free-text reviews."""

    __tablename__ = "point"
    __table_args__ = (
        UniqueConstraint("review_id", "extractor", "position"),
        check("position", "position >= 0"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("review.id", ondelete="CASCADE"))
    extractor: Mapped[str]
    position: Mapped[int]
    aspect: Mapped[str | None]
    text: Mapped[str]


class Comparison(Base):
    """Two reviewer versions held against a reference, under one judging configuration."""

    __tablename__ = "comparison"
    __table_args__ = (
        UniqueConstraint("a_id", "b_id", "reference_id", "config_sha256"),
        check("rivals", "a_id <> b_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    b_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    reference_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    config: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    config_sha256: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=now())


class PointMatch(Base):
    """How similar, from 0 to 10, a generated point is to one of the reference's."""

    __tablename__ = "point_match"
    __table_args__ = (
        UniqueConstraint(
            *("comparison_id", "reference_point_id", "generated_point_id", "matcher"),
            # The convention's name would be longer than PostgreSQL's 63 characters.
            name="uq_point_match_pair",
        ),
        check("similarity", "similarity >= 0 AND similarity <= 10"),
        check("votes", "votes >= 0"),
        Index("ix_point_match_generated", "generated_point_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    reference_point_id: Mapped[int] = mapped_column(ForeignKey("point.id"))
    generated_point_id: Mapped[int] = mapped_column(ForeignKey("point.id"))
    matcher: Mapped[str]
    similarity: Mapped[float]
    votes: Mapped[int] = mapped_column(default=1)
    rationale: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float] = mapped_column(default=now())


class Verdict(Base):
    """Who won on a paper, seen from reviewer a; `aspect` NULL means the whole review."""

    __tablename__ = "verdict"
    __table_args__ = (
        check_one_of("outcome", Outcome),
        check_one_of("shown_first", ShownFirst),
        partial_index(
            "uq_verdict_whole",
            *("comparison_id", "paper_id", "shown_first"),
            where="aspect IS NULL",
            unique=True,
        ),
        UniqueConstraint("comparison_id", "paper_id", "aspect", "shown_first"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id"))
    aspect: Mapped[str | None]
    #: Which review the judge saw first: judges favour positions, so both orders are kept.
    shown_first: Mapped[str]
    outcome: Mapped[str]
    rationale: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float] = mapped_column(default=now())
