"""Tables of comparisons: points, matches, counts and verdicts."""

from __future__ import annotations

from typing import Any, Literal, get_args

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.column_types import Base, CleanJson, Id, check, check_one_of, now, partial_index

Outcome = Literal["win", "tie", "lose", "invalid"]
#: Methods of verdicts that count hits: of all points, and expected ones at equal item counts.
MATCH = "match"
MATCH_EQUAL = "match_equal"
#: The method on which claims about reviewers rest.
HEADLINE = MATCH_EQUAL
#: Which review the judge saw first; "neither" for counts of hits.
ShownFirst = Literal["a", "b", "neither"]
#: What is counted: the rivals' points against the paper's reference reviews, the same against the
#: reference reviews of another paper (chance), and one reference review against another (ceiling).
Role = Literal["a", "b", "null_a", "null_b", "ceiling"]
#: All points of the generated review, or as many as the shorter one of the two rivals has.
Cut = Literal["full", "equal"]
Exclusion = Literal["trained_hash", "trained_source", "trained_title"]


class PointRow(Base):
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


class ComparisonRow(Base):
    """Two reviewer versions compared with a reference, under one matching configuration.

    `a_id` may equal `b_id`, to check that a judge finds a reviewer equal to itself.
    """

    __tablename__ = "comparison"
    __table_args__ = (UniqueConstraint("a_id", "b_id", "reference_id", "config_sha256"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    b_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    reference_id: Mapped[int] = mapped_column(ForeignKey("reviewer.id"))
    config: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    config_sha256: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=now())


class ComparedPaper(Base):
    """A paper of a comparison with the reviews of each side.

    `matched_at` is NULL until all matches and counts of the paper are stored; a paper with
    `excluded` is neither matched nor judged.
    """

    __tablename__ = "compared_paper"
    __table_args__ = (
        check(
            "excluded",
            f"excluded IS NULL OR excluded IN ({', '.join(map(repr, get_args(Exclusion)))})",
        ),
        check("matched", "excluded IS NULL OR matched_at IS NULL"),
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True
    )
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id"), primary_key=True)
    a_review_id: Mapped[int] = mapped_column(ForeignKey("review.id"))
    b_review_id: Mapped[int] = mapped_column(ForeignKey("review.id"))
    #: [review id], by id.
    reference_review_ids: Mapped[Any] = mapped_column(CleanJson, nullable=False)
    #: The other paper whose reference reviews give the chance level.
    null_paper_id: Mapped[int | None] = mapped_column(ForeignKey("paper.id"))
    excluded: Mapped[str | None]
    matched_at: Mapped[float | None]


class PointMatch(Base):
    """Similarity, from 0 to 10, of a generated point and a point of a reference review.

    `matched` says whether the matcher takes the two for the same point. Near misses, and pairs that
    lost to a better pair in the assignment, are stored with `matched` false; others are not stored.
    """

    __tablename__ = "point_match"
    __table_args__ = (
        UniqueConstraint(
            *("comparison_id", "reference_point_id", "generated_point_id", "matcher"),
            # The name by convention would exceed PostgreSQL's limit of 63 characters.
            name="uq_point_match_pair",
        ),
        check("similarity", "similarity >= 0 AND similarity <= 10"),
        check("votes", "votes >= 0"),
        Index("ix_point_match_generated", "generated_point_id"),
        Index("ix_point_match_reference", "reference_point_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id", ondelete="CASCADE"))
    reference_point_id: Mapped[int] = mapped_column(ForeignKey("point.id", ondelete="CASCADE"))
    generated_point_id: Mapped[int] = mapped_column(ForeignKey("point.id", ondelete="CASCADE"))
    matcher: Mapped[str]
    similarity: Mapped[float]
    matched: Mapped[bool]
    votes: Mapped[int] = mapped_column(default=1)
    #: none, weak, medium or high, and less, same or more; from matchers that rate them.
    relatedness: Mapped[str | None]
    specificity: Mapped[str | None]
    rationale: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float] = mapped_column(default=now())


class MatchCount(Base):
    """How many points of a generated and of a reference review match a point of the other.

    `reference_review_id` is NULL for the union of the paper's reference reviews. `hits_reference`
    of `n_reference` points and `hits_generated` of `n_generated` points are matched; `n_pairs` is
    the size of the largest one-to-one matching among the pairs.
    """

    __tablename__ = "match_count"
    __table_args__ = (
        check_one_of("role", Role),
        check_one_of("cut", Cut),
        check("reference", "hits_reference >= 0 AND hits_reference <= n_reference"),
        check("generated", "hits_generated >= 0 AND hits_generated <= n_generated"),
        check("pairs", "n_pairs >= 0 AND n_pairs <= hits_reference AND n_pairs <= hits_generated"),
        UniqueConstraint(
            *("comparison_id", "paper_id", "role", "cut"),
            *("generated_review_id", "reference_review_id"),
            name="uq_match_count_review",
        ),
        partial_index(
            "uq_match_count_union",
            *("comparison_id", "paper_id", "role", "cut", "generated_review_id"),
            where="reference_review_id IS NULL",
            unique=True,
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id", ondelete="CASCADE"))
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id"))
    role: Mapped[str]
    cut: Mapped[str]
    generated_review_id: Mapped[int] = mapped_column(ForeignKey("review.id"))
    reference_review_id: Mapped[int | None] = mapped_column(ForeignKey("review.id"))
    n_reference: Mapped[int]
    n_generated: Mapped[int]
    hits_reference: Mapped[int]
    hits_generated: Mapped[int]
    n_pairs: Mapped[int]


class Verdict(Base):
    """The outcome of a paper from reviewer a's side; `aspect` is NULL for the whole review.

    `method` is `match` (hits of all points), `match_equal` (expected hits at equal item counts) or
    `judge:MODEL:PROMPT`, `judge_equal:MODEL:PROMPT` for a language model, PROMPT being a hash.
    The outcome is `invalid` when the judge's answer could not be parsed; the paper is not
    counted then.
    """

    __tablename__ = "verdict"
    __table_args__ = (
        check_one_of("outcome", Outcome),
        check_one_of("shown_first", ShownFirst),
        check("repetition", "repetition >= 0"),
        partial_index(
            "uq_verdict_whole",
            *("comparison_id", "paper_id", "method", "shown_first", "repetition"),
            where="aspect IS NULL",
            unique=True,
        ),
        UniqueConstraint(
            *("comparison_id", "paper_id", "method", "aspect", "shown_first", "repetition"),
            name="uq_verdict_aspect",
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id", ondelete="CASCADE"))
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id"))
    method: Mapped[str]
    aspect: Mapped[str | None]
    #: Judges have a position bias, so both orders are asked and stored.
    shown_first: Mapped[str]
    #: Above 0 for repeated questions, which measure the judge's stability and nothing else.
    repetition: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[str]
    #: The hits that decided the outcome and the numbers of items; NULL for models' verdicts.
    a_score: Mapped[float | None]
    b_score: Mapped[float | None]
    a_items: Mapped[int | None]
    b_items: Mapped[int | None]
    rationale: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float] = mapped_column(default=now())


class SplitUse(Base):
    """A comparison that used a split; a test split that is used often is no longer a fair test."""

    __tablename__ = "split_use"
    __table_args__ = (UniqueConstraint("split", "comparison_id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    split: Mapped[str]
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(default=now())
