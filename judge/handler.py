"""Handler of judge jobs: one question to a judge, its answer read and stored as verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from db import comparisons
from db.claims import Claim
from db.comparisons import Comparison
from db.completion import Cost
from db.matches import NewVerdict, commit_verdicts, is_judged
from db.session import Database
from dispatch.kinds import Accepted, ModelUse, Rejected
from errors import GiveUp, UserError
from judge import model_client, pairwise
from judge.judges import JudgeConfig
from judge.judging import JudgeQuestion, read_review_pair
from judge.pairwise import ReviewPair
from models.text.generation import Generation, GenerationRequest


class JudgeHandler:
    """Asks a judge about one paper of a comparison, in one order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A comparison's rivals and settings never change.
        self._comparison = lru_cache(lambda id: comparisons.find_comparison(database, id))

    def open(self, claim: Claim) -> JudgeTask | Accepted:
        """The question; nothing is asked when its verdict is there already.

        Raises GiveUp when it cannot be asked.
        """
        question = JudgeQuestion.of_job(claim.paper_id, claim.about or {})
        config = JudgeConfig.from_json(claim.reviewer.config)
        if is_judged(
            self._database,
            question.comparison_id,
            config.method,
            (question.paper_id, question.shown_first, question.repetition),
        ):
            return _accepted(self._database, claim, question, [], Cost())
        if config.prompt != pairwise.PROMPT_VERSION:
            raise GiveUp(
                "This worker's version asks judges with another prompt: run the judging command "
                "again with the workers' version.",
                kind="other_prompt",
            )
        try:
            comparison: Comparison = self._comparison(question.comparison_id)
            pair = read_review_pair(
                self._database, comparison, question.paper_id, equal=config.equal
            )
        except UserError as error:
            raise GiveUp(str(error), kind="no_paper") from error
        return JudgeTask(self._database, claim, question, config, pair)


@dataclass(frozen=True)
class JudgeTask:
    """One question. An answer that cannot be read is asked for again, then stored as `invalid`."""

    database: Database
    claim: Claim
    question: JudgeQuestion
    config: JudgeConfig
    pair: ReviewPair
    tries: int = model_client.TRIES

    @property
    def model(self) -> ModelUse:
        """The judge's endpoint."""
        return ModelUse(self.claim.reviewer.sha256, endpoint=self.config.endpoint)

    def request(self, number: int) -> GenerationRequest:
        """The question, with another seed at each try."""
        return model_client.request_of(
            pairwise.question_of(self.pair, self.question.shown_first),
            pairwise.request_seed(self.question.repetition),
            number,
            f"{self.claim.job_id}.{self.claim.attempt}.{number}",
        )

    def read(
        self, request: GenerationRequest, generation: Generation, versions: Mapping[str, str]
    ) -> Accepted | Rejected:
        """The answer's verdicts. What was rejected is not kept: it may quote the reviews."""
        question = self.question
        try:
            verdicts = pairwise.verdicts_of(
                self.pair,
                model_client.json_value(generation.text),
                question.shown_first,
                method=self.config.method,
                repetition=question.repetition,
            )
        except ValueError as error:
            return Rejected(str(error), {"failed": "unreadable"})
        cost = Cost(
            generation.n_prompt_tokens,
            generation.n_output_tokens,
            generation.truncated_tokens,
            generation.seconds_generating,
        )
        return _accepted(self.database, self.claim, question, verdicts, cost)

    def exhausted(self, rejected: Sequence[Rejected]) -> Accepted:
        """An `invalid` verdict, never a tie."""
        reason = f"{len(rejected)} answers could not be read: {rejected[-1].reason}"
        verdict = pairwise.invalid_verdict(
            self.pair,
            self.question.shown_first,
            method=self.config.method,
            repetition=self.question.repetition,
            reason=reason,
        )
        return _accepted(self.database, self.claim, self.question, [verdict], Cost())


def _accepted(
    database: Database,
    claim: Claim,
    question: JudgeQuestion,
    verdicts: Sequence[NewVerdict],
    cost: Cost,
) -> Accepted:
    return Accepted(
        cost, lambda: commit_verdicts(database, claim, question.comparison_id, verdicts, cost)
    )
