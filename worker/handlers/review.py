"""Handler of review jobs: the request to the model, and the answer parsed, checked and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from db.claims import Claim
from db.completion import NewItem, NewReview, commit_review
from db.session import Database
from dispatch.kinds import Accepted, ModelUse, Rejected
from errors import GiveUp
from models.text import gate
from models.text.generation import Generation, GenerationRequest
from models.text.parsing import parse
from models.text.review import GateResult, Review
from models.text.reviewer import ReviewerConfig, from_json

#: A rejected review is generated again at most this often.
MAX_RESAMPLES = 2
#: A re-sample needs some randomness to come out differently.
RESAMPLE_TEMPERATURE = 0.7


class ReviewHandler:
    """Writes a review of a job's paper, or of the input that the job has in its place."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._configs: dict[int, ReviewerConfig] = {}

    def open(self, claim: Claim) -> ReviewTask:
        """The job's task. GiveUp for a paper without text: there is nothing to review."""
        if not claim.text.strip():
            raise GiveUp(self.sentence_on_missing_text(claim), kind="no_text")
        return ReviewTask(self._database, claim, self._config(claim))

    def sentence_on_missing_text(self, claim: Claim) -> str:
        """What the user should do about a purged text."""
        return (
            f"{claim.custom_id} has no text any more, it was purged: submit its file again with "
            f"`referee retry {claim.batch_name} --input DIR`."
        )

    def _config(self, claim: Claim) -> ReviewerConfig:
        """A version's configuration, which never changes, read once."""
        version = claim.reviewer
        if version.id not in self._configs:
            self._configs[version.id] = from_json(version.config)
        return self._configs[version.id]


@dataclass(frozen=True)
class ReviewTask:
    """One review; an answer that the gate rejects is sampled again with another seed."""

    database: Database
    claim: Claim
    config: ReviewerConfig

    @property
    def model(self) -> ModelUse:
        """The reviewer's own model."""
        return ModelUse.of(self.claim.reviewer.sha256, self.config)

    @property
    def tries(self) -> int:
        """The first answer and its re-samples."""
        return 1 + MAX_RESAMPLES

    def request(self, number: int) -> GenerationRequest:
        """The request of a try; each has a seed of its own."""
        claim, config = self.claim, self.config
        temperature = max(config.temperature, RESAMPLE_TEMPERATURE) if number else None
        return config.request(
            f"{claim.job_id}.{claim.attempt}.{number}",
            claim.text,
            claim.seed + number,
            temperature=temperature,
        )

    def read(
        self, request: GenerationRequest, generation: Generation, versions: Mapping[str, str]
    ) -> Accepted | Rejected:
        """Parse the answer and let the gate check it."""
        review = parse(generation.text, self.config.aspect_set)
        result = gate.check(
            review,
            aspects=self.config.aspect_set,
            raw=generation.text,
            system=self.config.system_prompt,
            paper_text=self.claim.text,
            finish=generation.finish,
            n_output_tokens=generation.n_output_tokens,
            config=self.config.gate,
        )
        if not result.passed:
            failed = _failed_checks(result)
            return Rejected(failed, {"failed": failed, "text": generation.text})
        new = _new_review(review, result, request, generation, versions)
        return Accepted(new.cost, lambda: commit_review(self.database, self.claim, new))

    def exhausted(self, rejected: Sequence[Rejected]) -> Accepted:
        """The job fails with kind "gate"."""
        raise GiveUp(
            f"{len(rejected)} answers failed the gate: {rejected[-1].reason}.", kind="gate"
        )


def _failed_checks(result: GateResult) -> str:
    """Which fatal checks failed and why."""
    failed = [check for check in result.checks if check.fatal and not check.passed]
    return "; ".join(f"{check.name} ({check.detail})" for check in failed)


def _new_review(
    review: Review,
    result: GateResult,
    request: GenerationRequest,
    generation: Generation,
    versions: Mapping[str, str],
) -> NewReview:
    """Everything that is stored of a review."""
    return NewReview(
        raw=generation.text,
        items=tuple(NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
        empty_aspects=review.empty_aspects,
        unplaced=review.unplaced,
        adapter_sha256=generation.adapter_sha256,
        seed=request.seed,
        n_prompt_tokens=generation.n_prompt_tokens,
        n_output_tokens=generation.n_output_tokens,
        truncated_tokens=generation.truncated_tokens,
        finish=generation.finish,
        seconds=generation.seconds_generating,
        gate=[{**vars(check)} for check in result.checks],
        versions=_with_arithmetic(versions, generation),
    )


def _with_arithmetic(versions: Mapping[str, str], generation: Generation) -> Mapping[str, str]:
    """The engine's versions, and how it read this prompt."""
    if generation.arithmetic is None:
        return dict(versions)
    return {**versions, "arithmetic": generation.arithmetic}
