"""Judge-PK over a stored comparison: what is left to ask, and asking it from this process.

Each verdict is committed under its unique key as soon as it is there: a killed run repeats none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

from db import comparisons, points
from db.comparisons import Comparison, ComparisonPaper
from db.matches import judged_orders, store_verdicts
from db.points import ReviewText, StoredPoint
from db.session import Database
from dispatch.progress import Progress
from errors import GiveUp, RetryLater, UserError
from judge.judges import JudgeConfig
from judge.model_client import ModelClient, open_model_client
from judge.pairwise import PROMPT_VERSION, Order, ReviewPair, judge
from judge.point_extraction import equal_cut
from models.engines.api import endpoint_allowed
from models.text.aspects import find_aspect_set
from models.text.reviewer import Endpoint
from settings import Settings

#: One paper in so many is asked about twice, to see how stable the judge is.
_REPEATED = 10


@dataclass(frozen=True)
class JudgeOptions:
    """Who judges and how. `equal`: as many points of each, without headings."""

    url: str
    model: str
    concurrency: int = 4
    requests_per_minute: int = 600
    timeout_s: float = 300.0
    equal: bool = False
    allow_external: bool = False

    @property
    def endpoint(self) -> Endpoint:
        """Where the judge is."""
        return Endpoint(
            self.url, self.model, self.concurrency, self.requests_per_minute, self.timeout_s
        )

    @property
    def config(self) -> JudgeConfig:
        """The judge as it is stored."""
        return JudgeConfig(self.endpoint, self.equal, PROMPT_VERSION)

    @property
    def method(self) -> str:
        """The name under which its verdicts are stored."""
        return self.config.method


@dataclass(frozen=True)
class JudgeQuestion:
    """One question: a paper of a comparison, in one order."""

    comparison_id: int
    paper_id: int
    shown_first: Order
    repetition: int

    @property
    def about(self) -> dict[str, Any]:
        """What a job stores of it, beside its paper."""
        return {
            "comparison": self.comparison_id,
            "shown_first": self.shown_first,
            "repetition": self.repetition,
        }

    @classmethod
    def of_job(cls, paper_id: int, about: Mapping[str, Any]) -> JudgeQuestion:
        """Read what `about` wrote."""
        return cls(about["comparison"], paper_id, about["shown_first"], about["repetition"])


def check_may_send(options: JudgeOptions, settings: Settings) -> None:
    """Refuse a judge that reviews may not be sent to. UserError."""
    allowed = options.allow_external or settings.allow_external
    endpoint_allowed(options.url, allowed, settings.allowed_hosts)


def allowed_without_asking(options: JudgeOptions, settings: Settings) -> bool:
    """Whether reviews may be sent to the judge without the command's `--allow-external`."""
    try:
        check_may_send(replace(options, allow_external=False), settings)
    except UserError:
        return False
    return True


def pending(
    database: Database, comparison: Comparison, options: JudgeOptions, *, repeat: bool = True
) -> list[JudgeQuestion]:
    """Every question that has no verdict yet, by paper."""
    done = judged_orders(database, comparison.id, options.method)
    orders: tuple[Order, Order] = ("a", "b")
    return [
        JudgeQuestion(comparison.id, paper.paper_id, order, repetition)
        for paper, _ in comparisons.papers_of(database, comparison.id)
        if paper.excluded is None
        for repetition in ((0, 1) if repeat and _is_repeated(paper) else (0,))
        for order in orders
        if (paper.paper_id, order, repetition) not in done
    ]


def _is_repeated(paper: ComparisonPaper) -> bool:
    digest = hashlib.sha256(f"repeat {paper.sha256}".encode()).digest()
    return digest[0] % _REPEATED == 0


class Judge:
    """Answers questions of one judge model."""

    def __init__(self, database: Database, settings: Settings, options: JudgeOptions) -> None:
        """Raises UserError when reviews may not be sent to the endpoint."""
        check_may_send(options, settings)
        self._database = database
        self._options = options
        self._model_client: ModelClient = open_model_client(
            options.endpoint, settings.api_key.get_secret_value()
        )

    def answer(self, ask: JudgeQuestion) -> None:
        """Ask and store. Raises RetryLater or GiveUp when the judge cannot be asked."""
        comparison = comparisons.find_comparison(self._database, ask.comparison_id)
        review_pair = read_review_pair(
            self._database, comparison, ask.paper_id, equal=self._options.equal
        )
        verdicts = judge(
            review_pair,
            self._model_client,
            ask.shown_first,
            equal=self._options.equal,
            repetition=ask.repetition,
        )
        store_verdicts(self._database, ask.comparison_id, ask.paper_id, verdicts)

    def answer_all(self, questions: Sequence[JudgeQuestion], progress: Progress) -> list[str]:
        """Answer many at the same time; a sentence for each that could not be."""
        problems: list[str] = []
        with ThreadPoolExecutor(self._options.concurrency) as pool:
            futures = {pool.submit(self.answer, ask): ask for ask in questions}
            for done, future in enumerate(as_completed(futures), start=1):
                error = future.exception()
                if isinstance(error, RetryLater | GiveUp):
                    problems.append(f"paper {futures[future].paper_id}: {error}")
                elif error is not None:
                    raise error
                progress(done, len(questions))
        return problems

    def close(self) -> None:
        """Close the connection."""
        self._model_client.close()


def read_review_pair(
    database: Database, comparison: Comparison, paper_id: int, *, equal: bool
) -> ReviewPair:
    """What the judge reads of a paper.

    UserError when the comparison has no such paper, GiveUp when a review was purged.
    """
    listed = comparisons.papers_of(database, comparison.id, paper_id)
    if not listed:
        raise UserError(f"Comparison {comparison.id} has no paper {paper_id}.")
    ((paper, _),) = listed
    extractor = str(comparison.config["extractor"])
    ids = [paper.a_review, paper.b_review, *paper.reference_reviews]
    found = points.read_points(database, extractor, ids)
    texts = points.read_reviews(database, ids)
    if not (_has_words(texts[0]) and _has_words(texts[1])):
        raise GiveUp("A review has no text any more, it was purged.", kind="no_text")
    of_a, of_b = found.get(paper.a_review, ()), found.get(paper.b_review, ())
    n = min(len(of_a), len(of_b))
    if equal:
        a, b = (_listed(equal_cut(some, n, paper.sha256)) for some in (of_a, of_b))
    else:
        a, b = _as_written(texts[0]), _as_written(texts[1])
    sizes = (n, n) if equal else (len(of_a), len(of_b))
    aspects = () if equal else _shared_aspects(comparison)
    return ReviewPair(paper_id, [_as_written(text) for text in texts[2:]], a, b, *sizes, aspects)


def _has_words(review: ReviewText) -> bool:
    return bool(review.raw.strip()) or any(title or text for _, title, text in review.items)


def _listed(chosen: Sequence[StoredPoint]) -> str:
    return "\n".join(f"- {point.text}" for point in chosen)


def _as_written(review: ReviewText) -> str:
    if not review.items:
        return review.raw.strip()
    aspects = find_aspect_set(review.aspects)
    headings = aspects.headings if aspects else {}
    lines: list[str] = []
    last = None
    for aspect, title, text in review.items:
        if aspect != last:
            lines.append(f"[{headings.get(aspect, aspect)}]")
            last = aspect
        lines.append(f"- {title}: {text}" if title else f"- {text}")
    return "\n".join(lines)


def _shared_aspects(comparison: Comparison) -> tuple[str, ...]:
    names = {str(version.config.get("aspects")) for version in (comparison.a, comparison.b)}
    aspects = find_aspect_set(names.pop()) if len(names) == 1 else None
    return aspects.keys if aspects else ()
