"""Merges the reviews of a paper into one by aspect, without a model.

Deterministic: points that say the same are joined, what more reviewers say comes first, both sides
of a disagreement are kept, and an aspect without points is left empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from errors import UserError
from models.text.aspects import AspectSet, MergeRule
from models.text.review import Item
from trainer.data.review_points import ReviewPoint, points_of
from trainer.data.stance import weight_of

#: Share of the shorter point's words that two points share when they say the same.
SAME_POINT_SIMILARITY = 0.5

_WORD = re.compile(r"[a-z][a-z-]+")
_STOP_WORDS = """the a an of and or to in on for with by from at as is are was were be been it its
this that these those there their they them we our i you your he not no but if so than then which
who what when how why can could should would may might do does did has have had will also only very
more most some any all such other paper authors author work results method model"""
_STOP = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True)
class PointGroup:
    """Points of one paper that say the same; `point` represents them."""

    point: ReviewPoint
    reviewers: frozenset[int]

    @property
    def rank(self) -> tuple[int, int, int, int, int]:
        """Order of importance: number of reviewers, strength of stance, then how well it reads."""
        weight = weight_of(self.point.text, self.point.stance)
        known = self.point.subject.topic != "other"
        fits = 12 <= self.point.n_words <= 50
        return (-len(self.reviewers), -weight, -int(known), -int(fits), self.point.position)


def merge(reviews: Sequence[Mapping[str, str]], aspects: AspectSet) -> tuple[Item, ...]:
    """One review from many, each given by its parts; items in the order of the aspects."""
    return assign_to_aspects(group([points_of(parts) for parts in reviews]), aspects)


def assign_to_aspects(groups: Sequence[PointGroup], aspects: AspectSet) -> tuple[Item, ...]:
    """The items of a review from what its reviewers say; each group is used once at most.

    UserError when the aspect set has no rules for it.
    """
    if not aspects.merging:
        raise UserError(
            f"The aspect set {aspects.name} has no rules for merging without a model: add "
            "`merging` to its file, or merge with `--engine api`."
        )
    left = list(groups)
    chosen: dict[str, list[PointGroup]] = {}
    for rule in aspects.merging:
        fitting = sorted((g for g in left if _belongs(g.point, rule)), key=lambda g: g.rank)
        chosen[rule.aspect] = _choose(fitting, rule.max_items)
        left = [each for each in left if each not in chosen[rule.aspect]]
    return tuple(item for key in aspects.keys for item in _items(key, chosen.get(key, ())))


def _belongs(point: ReviewPoint, rule: MergeRule) -> bool:
    return any(
        each.accepts(point.subject.topic, point.stance, point.part_kind) for each in rule.any
    )


def group(reviews: Sequence[Sequence[ReviewPoint]]) -> list[PointGroup]:
    """Join the points that say the same with the same stance, within and across reviews."""
    groups: list[tuple[list[ReviewPoint], set[int], list[set[str]]]] = []
    for reviewer, points in enumerate(reviews):
        for point in points:
            words = _content(point.text)
            home = next((g for g in groups if _same(point, words, g[0], g[2])), None)
            if home is None:
                groups.append(([point], {reviewer}, [words]))
            else:
                home[0].append(point)
                home[1].add(reviewer)
                home[2].append(words)
    return [PointGroup(_representative(points), frozenset(who)) for points, who, _ in groups]


def _same(
    point: ReviewPoint, words: set[str], points: list[ReviewPoint], others: list[set[str]]
) -> bool:
    return any(
        point.stance == other.stance and _share(words, known) >= SAME_POINT_SIMILARITY
        for other, known in zip(points, others, strict=True)
    )


def _share(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, min(len(one), len(other)))


def _content(text: str) -> set[str]:
    # Without its ending, so that "experiment" and "experiments" are one word.
    return {word[:7] for word in _WORD.findall(text.casefold()) if word not in _STOP}


def _representative(points: Iterable[ReviewPoint]) -> ReviewPoint:
    return min(points, key=lambda point: (abs(point.n_words - 30), point.position))


def _choose(fitting: Sequence[PointGroup], most: int) -> list[PointGroup]:
    """The first ones, but the other side too when there is one: disagreements are kept."""
    chosen = list(fitting[:most])
    stances = {each.point.stance for each in chosen}
    other = next((each for each in fitting[most:] if each.point.stance not in stances), None)
    if other is not None and most > 1 and stances <= {"praise", "criticism"}:
        chosen[-1] = other
    return chosen


def _items(key: str, chosen: Sequence[PointGroup]) -> list[Item]:
    items: list[Item] = []
    for each in chosen:
        items.append(Item(key, len(items), each.point.title, each.point.text))
    return items
