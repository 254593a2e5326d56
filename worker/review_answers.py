"""What lies between a claim and its review: the request, and the answer read and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from db.claims import Claim
from db.completion import NewItem, NewReview
from errors import GiveUp
from models.text import gate
from models.text.generation import Generation, GenerationRequest
from models.text.parsing import parse
from models.text.review import GateResult, Review
from models.text.reviewer import ReviewerConfig

#: A re-sample needs some randomness to come out differently.
RESAMPLE_TEMPERATURE = 0.7


@dataclass(frozen=True)
class CheckedReview:
    """A generation, the review parsed from it, and what the gate says of it."""

    request: GenerationRequest
    generation: Generation
    review: Review
    result: GateResult

    @property
    def failed(self) -> str:
        """Which fatal checks failed and why; empty when the review passed."""
        failed = [check for check in self.result.checks if check.fatal and not check.passed]
        return "; ".join(f"{check.name} ({check.detail})" for check in failed)

    def to_store(self, versions: Mapping[str, str]) -> NewReview:
        """Everything that is kept of it; `versions` are the engine's."""
        written, review = self.generation, self.review
        return NewReview(
            raw=written.text,
            items=tuple(NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
            empty_aspects=review.empty_aspects,
            unplaced=review.unplaced,
            adapter_sha256=written.adapter_sha256,
            seed=self.request.seed,
            n_prompt_tokens=written.n_prompt_tokens,
            n_output_tokens=written.n_output_tokens,
            truncated_tokens=written.truncated_tokens,
            finish=written.finish,
            seconds=written.seconds_generating,
            gate=[{**vars(check)} for check in self.result.checks],
            versions=dict(versions),
        )


def request_for(config: ReviewerConfig, claim: Claim, sample: int) -> GenerationRequest:
    """The request of a job's `sample`-th try, from 0; each has a seed of its own.

    GiveUp for a paper without text: there is nothing to review.
    """
    if not claim.body.strip():
        raise GiveUp(
            f"{claim.custom_id} has no text any more, it was purged: submit its file again with "
            f"`referee retry {claim.batch_name} --input DIR`.",
            kind="no_text",
        )
    temperature = max(config.temperature, RESAMPLE_TEMPERATURE) if sample else None
    return config.request(
        f"{claim.job_id}.{claim.attempt}.{sample}",
        claim.body,
        claim.seed + sample,
        temperature=temperature,
    )


def read(
    config: ReviewerConfig, claim: Claim, request: GenerationRequest, generation: Generation
) -> CheckedReview:
    """Parse what was written, and let the gate check it."""
    review = parse(generation.text, config.aspect_set)
    result = gate.check(
        review,
        aspects=config.aspect_set,
        raw=generation.text,
        system=config.system_prompt,
        paper_text=claim.body,
        finish=generation.finish,
        n_output_tokens=generation.n_output_tokens,
        config=config.gate,
    )
    return CheckedReview(request, generation, review, result)
