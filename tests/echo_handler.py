"""The smallest handler of a kind of jobs: it stores the first line of the model's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from db.claims import Claim
from db.completion import Cost, commit
from db.job_events import Change, record
from db.session import Database
from dispatch.kinds import Accepted, ModelUse, Rejected
from errors import GiveUp
from models.text.generation import Generation, GenerationRequest
from models.text.reviewer import from_json


class EchoHandler:
    """Asks the reviewer's model about the paper's text."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, claim: Claim) -> EchoTask:
        return EchoTask(self._database, claim)


@dataclass(frozen=True)
class EchoTask:
    """Accepts any non-empty answer."""

    database: Database
    claim: Claim
    tries: int = 1

    @property
    def model(self) -> ModelUse:
        reviewer = self.claim.reviewer
        return ModelUse.of(reviewer.sha256, from_json(reviewer.config))

    def request(self, number: int) -> GenerationRequest:
        claim = self.claim
        request_id = f"{claim.job_id}.{claim.attempt}.{number}"
        return from_json(claim.reviewer.config).request(request_id, claim.text, claim.seed)

    def read(
        self, request: GenerationRequest, generation: Generation, versions: Mapping[str, str]
    ) -> Accepted | Rejected:
        line = generation.text.partition("\n")[0]
        if not line:
            return Rejected("an empty answer", {})
        cost, mine = Cost(n_output_tokens=generation.n_output_tokens), [Change(*self.claim.key)]
        return Accepted(
            cost,
            lambda: commit(
                self.database,
                self.claim,
                cost,
                lambda on: record(on, "echoed", mine, detail={"line": line}),
            ),
        )

    def exhausted(self, rejected: Sequence[Rejected]) -> Accepted:
        raise GiveUp(rejected[-1].reason, kind="empty")
