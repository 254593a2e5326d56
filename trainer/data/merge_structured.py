"""Merge the corpus' reviews without a model and store them.

Merging with a model runs as jobs: see trainer.data.merge_jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.paper_contents import PaperContent, contents_by_id
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import roster
from dispatch.progress import Progress
from errors import UserError
from models.text import gate
from models.text.aspects import AspectSet, aspect_sets
from models.text.gate import GateConfig
from models.text.merging_prompt import STRUCTURED
from models.text.parsing import parse, render
from models.text.review import GateResult, Item
from trainer.data.merge_inputs import MergeInput
from trainer.data.review_points import points_of
from trainer.data.structured_merge import PointGroup, assign_to_aspects, group
from trainer.data.text_table import Table

#: Checks that a usable merge of human reviews must pass.
GATE = GateConfig(fatal=("headings", "not_all_empty", "loop", "refusal", "language"))


@dataclass
class Merged:
    """Counts of a merging run, per merged reviewer."""

    reviewer: str
    aspects: str
    new: int = 0
    known: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Papers that have a merged review now."""
        return self.new + self.known


def structured_mergers(database: Database, names: Sequence[str]) -> list[ReviewerVersion]:
    """The merged reviewers of these names. UserError for one that needs a model."""
    mergers = [roster.resolve(database, name) for name in names]
    for version, config in mergers:
        if config.kind != "merged" or config.base or config.endpoint:
            raise UserError(f"{version.name} does not merge without a model.")
    return [version for version, _ in mergers]


def merge_structured(
    database: Database,
    inputs: Sequence[MergeInput],
    mergers: Sequence[ReviewerVersion],
    progress: Progress,
) -> list[Merged]:
    """Merge every input for each merger; an existing merge of the same input is kept."""
    done = [Merged(f"{m.name} v{m.version}", str(m.config["aspects"])) for m in mergers]
    rows: list[list[FrozenReview]] = [[] for _ in mergers]
    contents = contents_by_id(database, [each.paper.id for each in inputs])
    for number, each in enumerate(inputs, start=1):
        groups = group([points_of(parts) for parts in each.reviews])
        for result, found in zip(done, rows, strict=True):
            row = _imported_review(each, contents[each.paper.id], groups, result)
            if row is not None:
                found.append(row)
        progress(number, len(inputs))
    for merger, result, found in zip(mergers, done, rows, strict=True):
        stored = import_reviews(database, merger, found)
        result.new, result.known = stored.new, stored.known
    return done


def _imported_review(
    each: MergeInput,
    content: PaperContent,
    groups: Sequence[PointGroup],
    result: Merged,
) -> FrozenReview | None:
    aspects = aspect_sets()[result.aspects]
    raw = render(assign_to_aspects(groups, aspects), aspects)
    review = parse(raw, aspects)
    checked = _check(raw, aspects)
    if not checked.passed:
        result.rejected.update(c.name for c in checked.checks if c.fatal and not c.passed)
        return None
    _count(result, review.items, aspects)
    return FrozenReview(
        external_id=each.sha256,
        paper=content,
        raw=raw,
        items=tuple(NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
        empty_aspects=review.empty_aspects,
        fields={"n_reviews": len(each.reviews)},
        gate=[asdict(check) for check in checked.checks],
        versions={"merger": STRUCTURED},
    )


def _check(raw: str, aspects: AspectSet) -> GateResult:
    return gate.check(
        parse(raw, aspects),
        aspects=aspects,
        raw=raw,
        system="",
        paper_text="",
        finish="stop",
        n_output_tokens=0,
        config=GATE,
    )


def _count(result: Merged, items: Sequence[Item], aspects: AspectSet) -> None:
    used = Counter(item.aspect for item in items)
    result.items.update(used)
    result.empty.update(key for key in aspects.keys if not used[key])


def tables(done: Sequence[Merged]) -> list[Table]:
    """Results of the merges and numbers of items per aspect."""
    merges = [(m.reviewer, m.total, m.new, m.known, sum(m.rejected.values())) for m in done]
    aspects = [
        (m.reviewer, key, f"{m.items[key] / n:.2f}", f"{m.empty[key] / n:.0%}")
        for m in done
        if (n := m.total)
        for key in aspect_sets()[m.aspects].keys
    ]
    return [
        Table(("merged by", "papers", "new", "known", "rejected"), merges),
        Table(("merged by", "aspect", "items a paper", "empty"), aspects),
    ]
