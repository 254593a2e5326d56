"""Build a data set from the corpus and its merged reviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from db import corpus
from db.corpus import CorpusPaper, MergedReview, NewFlag
from db.reviewers import ReviewerVersion
from db.session import Database
from errors import UserError
from models.text.review import Item
from models.text.reviewer import ReviewerConfig
from models.text.templates import TEMPLATES, AnyTokenizer
from models.weights import store
from settings import Settings
from trainer.data import dataset, splitting
from trainer.data.cleaning_rules import percentiles
from trainer.data.dataset import Dataset, TrainingPair
from trainer.data.dataset_card import Card, CardSource, CutRule
from trainer.data.pair_encoding import Limits, PairEncoder, ReviewCounter
from trainer.data.shortening import shorten
from trainer.data.splitting import Placement, SplitCandidate, SplitShares

#: Percentiles of lengths in the card.
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
_NON_COMMERCIAL = ("-NC", "BY NC", "NONCOMMERCIAL", "NON-COMMERCIAL")


@dataclass(frozen=True)
class BuildOptions:
    """What to build. `sources` empty means all but the non-commercial ones."""

    folder: Path
    name: str
    sources: Sequence[str] = ()
    split_files: Sequence[Path] = ()
    shares: SplitShares = field(default_factory=SplitShares)
    seed: int = 42
    replace: bool = False


@dataclass(frozen=True)
class TargetModel:
    """The reviewer to be trained and its tokenizer."""

    config: ReviewerConfig
    tokenizer: AnyTokenizer
    tokenizer_name: str


def target_of(config: ReviewerConfig, settings: Settings) -> TargetModel:
    """A local reviewer with its tokenizer. MissingPart when its model is not on this machine."""
    if config.base is None or config.template is None:
        raise UserError(f"{config.name} has no local model to train.")
    tokenizer = store.load_tokenizer(store.resolve(config.base, settings.home))
    TEMPLATES[config.template].check(tokenizer)
    return TargetModel(config, tokenizer, config.base.name)


@dataclass(frozen=True)
class _BuiltPair:
    name: str
    pair: TrainingPair
    source: str
    licence: str
    lengths: Mapping[str, int]
    paper_cut: bool
    shortened: bool


def build(
    database: Database, merged: ReviewerVersion, target: TargetModel, options: BuildOptions
) -> Dataset:
    """Write the data set of all papers that rules, licences and splits admit.

    UserError when none is left, or the merged reviewer has another aspect set.
    """
    aspects = str(merged.config["aspects"])
    if aspects != target.config.aspects:
        raise UserError(
            f"{merged.name} writes the aspect set {aspects}, but {target.config.name} writes "
            f"{target.config.aspects}."
        )
    rules: Counter[str] = Counter()
    papers = _included_papers(database, options, rules)
    reviews = {review.paper_id: review for review in corpus.merged_reviews(database, merged.id)}
    rules["not_merged"] = sum(paper.id not in reviews for paper in papers)
    papers = [paper for paper in papers if paper.id in reviews]
    placement = _split_papers(database, papers, options)
    rules.update(placement.left_out.values())
    papers = [paper for paper in papers if _name(paper) in placement.split_of]
    made = _build_pairs(database, papers, reviews, target, rules)
    if not made:
        counted = ", ".join(f"{rule} {n}" for rule, n in rules.items() if n) or "no paper at all"
        raise UserError(f"No pairs are left to build a data set from: {counted}.")
    return _write(made, placement, merged, target, options, rules)


def _included_papers(
    database: Database, options: BuildOptions, rules: Counter[str]
) -> list[CorpusPaper]:
    unknown = set(options.sources) - set(corpus.source_names(database))
    if unknown:
        raise UserError(f"There is no source {min(unknown)!r}; `referee data stats` lists them.")
    papers = corpus.corpus_papers(database, options.sources)
    flags = corpus.flags_of(database, [paper.id for paper in papers])
    out = _excluded(flags)
    kept = []
    for paper in papers:
        if not options.sources and is_non_commercial(paper.licence):
            rules["non_commercial_licence"] += 1
        elif paper.id in out:
            rules.update(out[paper.id])
        else:
            kept.append(paper)
    return kept


def _excluded(flags: Iterable[NewFlag]) -> dict[int, list[str]]:
    out: dict[int, list[str]] = {}
    for flag in flags:
        if flag.review_id is None and flag.excludes:
            out.setdefault(flag.paper_id, []).append(flag.rule)
    return out


def is_non_commercial(licence: str) -> bool:
    """Does the licence's name forbid commercial use?"""
    return any(mark in licence.upper() for mark in _NON_COMMERCIAL)


def _split_papers(
    database: Database, papers: Sequence[CorpusPaper], options: BuildOptions
) -> Placement:
    by_id = {paper.id: paper for paper in papers}
    candidates = [
        SplitCandidate(
            _name(by_id[paper_id]),
            by_id[paper_id].title,
            stratum_of(by_id[paper_id].decision),
            splitting.sketch(body),
        )
        for paper_id, body in corpus.bodies(database, list(by_id))
    ]
    if options.split_files:
        named = splitting.read_splits(options.split_files)
        # Split files use the names of the source.
        full = {_name(p): named[p.source_id] for p in papers if p.source_id in named}
        return splitting.split_by_lists(candidates, full)
    return splitting.split(candidates, options.shares, options.seed)


def stratum_of(decision: str | None) -> str:
    """accept, reject or unknown: every split should have the same share of each."""
    text = (decision or "").casefold()
    if any(word in text for word in ("accept", "oral", "poster", "spotlight", "notable")):
        return "accept"
    return "reject" if any(w in text for w in ("reject", "workshop", "withdraw")) else "unknown"


def _name(paper: CorpusPaper) -> str:
    return f"{paper.source}/{paper.source_id}"


def _build_pairs(
    database: Database,
    papers: Sequence[CorpusPaper],
    reviews: Mapping[int, MergedReview],
    target: TargetModel,
    rules: Counter[str],
) -> list[_BuiltPair]:
    by_id = {paper.id: paper for paper in papers}
    made = []
    count = ReviewCounter(target.tokenizer)
    for paper_id, body in corpus.bodies(database, list(by_id)):
        one = _build_pair(by_id[paper_id], body, reviews[paper_id], target, count)
        if isinstance(one, str):
            rules[one] += 1
        else:
            made.append(one)
    return made


def _build_pair(
    paper: CorpusPaper, body: str, review: MergedReview, target: TargetModel, count: ReviewCounter
) -> _BuiltPair | str:
    """The pair of one paper, or the rule that excludes it."""
    if not review.items:
        return "empty_merge"
    aspects = target.config.aspect_set
    limits = limits_of(target.config)
    items = [Item(aspect, 0, title, text) for aspect, title, text in review.items]
    fitted = shorten(
        items,
        aspects,
        # The end token counts as part of the response.
        limits.max_response_tokens - 1,
        count,
    )
    if fitted is None:
        return "review_too_long"
    text, shortened = fitted
    pair = TrainingPair(paper.source_id, paper.sha256, body, text)
    encoder = encoder_of(target)
    sample = encoder.encode(pair)
    prompt = len(sample.prompt_ids) + sample.n_paper_tokens_cut
    response = len(sample.response_ids)
    lengths = {"prompt": prompt, "response": response, "pair": prompt + response}
    return _BuiltPair(
        name=_name(paper),
        pair=pair,
        source=paper.source,
        licence=paper.licence,
        lengths=lengths,
        paper_cut=sample.n_paper_tokens_cut > 0,
        shortened=shortened,
    )


def limits_of(config: ReviewerConfig) -> Limits:
    """A worker's limits, which training uses too."""
    return Limits(config.max_prompt_tokens, config.max_new_tokens)


def encoder_of(target: TargetModel) -> PairEncoder:
    """The encoder of a target's samples."""
    return PairEncoder(
        target.tokenizer,
        TEMPLATES[target.config.template or ""],
        target.config.aspect_set,
        limits_of(target.config),
    )


def _write(
    made: Sequence[_BuiltPair],
    placement: Placement,
    merged: ReviewerVersion,
    target: TargetModel,
    options: BuildOptions,
    rules: Mapping[str, int],
) -> Dataset:
    limits = limits_of(target.config)
    sources = Counter((one.source, one.licence) for one in made)
    named = ", ".join(file.name for file in options.split_files)
    card = Card(
        name=options.name,
        aspects=target.config.aspects,
        reviewer=f"{merged.name} v{merged.version}",
        tokenizer=target.tokenizer_name,
        cut=CutRule(
            template=target.config.template or "",
            max_prompt_tokens=limits.max_prompt_tokens,
            max_response_tokens=limits.max_response_tokens,
            n_papers_cut=sum(one.paper_cut for one in made),
            n_reviews_shortened=sum(one.shortened for one in made),
        ),
        lengths={
            part: percentiles(sorted(one.lengths[part] for one in made), _PERCENTILES)
            for part in ("prompt", "response", "pair")
        },
        rules={rule: count for rule, count in sorted(rules.items()) if count},
        sources=tuple(CardSource(*key, n) for key, n in sorted(sources.items())),
        seed=options.seed,
        split_rule=f"as named in {named}"
        if named
        else "by paper, near-duplicates together, equal in decisions",
        code_version=version("referee"),
    )
    splits: dict[str, list[TrainingPair]] = {name: [] for name in dataset.SPLITS}
    for one in sorted(made, key=lambda one: one.name):
        splits[placement.split_of[one.name]].append(one.pair)
    return dataset.write(
        options.folder,
        card,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        replace=options.replace,
    )
