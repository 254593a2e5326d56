"""Merges the reviews of a paper into one by aspect, without a model.

Deterministic: points that say the same are joined, what more reviewers say comes first, both sides
of a disagreement are kept, and an aspect about which nobody said anything is left empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.text.aspects import AspectSet
from models.text.review import Item
from trainer.data.review_points import ReviewPoint, points_of
from trainer.data.stance import weight_of

#: Items of an aspect. Most aspects of the line's public data hold two.
MAX_ITEMS: Mapping[str, int] = {"acceptance": 3, "rejection": 3, "suggestions": 3}
FEW_ITEMS = 2
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
    """Points of one paper that say the same; `point` speaks for them."""

    point: ReviewPoint
    reviewers: frozenset[int]

    @property
    def rank(self) -> tuple[int, int, int, int, int]:
        """Order of importance: how many say it, then how surely, then how well it stands alone."""
        weight = weight_of(self.point.text, self.point.stance)
        known = self.point.subject.topic != "other"
        fits = 12 <= self.point.n_words <= 50
        return (-len(self.reviewers), -weight, -int(known), -int(fits), self.point.position)


PointFilter = Callable[[ReviewPoint], bool]

#: An aspect's key -> what belongs there, in the order in which aspects choose. What the special
#: aspects leave over goes to acceptance and rejection.
_ASPECT_FILTERS_7: tuple[tuple[str, PointFilter], ...] = (
    ("idea", lambda p: p.subject.topic == "idea" and p.stance in ("praise", "criticism")),
    ("novelty", lambda p: p.subject.topic == "novelty" and p.stance in ("praise", "criticism")),
    (
        "experiments",
        lambda p: p.subject.topic == "experiments" and p.stance in ("praise", "criticism"),
    ),
    (
        "other",
        lambda p: p.part_kind in ("limits", "minor") or p.subject.topic in ("minor", "limits"),
    ),
    ("acceptance", lambda p: p.stance == "praise"),
    ("rejection", lambda p: p.stance == "criticism"),
    ("suggestions", lambda p: p.stance == "request"),
)
_ASPECT_FILTERS_4: tuple[tuple[str, PointFilter], ...] = (
    (
        "significance",
        lambda p: p.subject.topic in ("idea", "novelty") and p.stance in ("praise", "criticism"),
    ),
    ("acceptance", lambda p: p.stance == "praise"),
    ("rejection", lambda p: p.stance == "criticism" and p.part_kind not in ("limits", "minor")),
    ("suggestions", lambda p: p.stance == "request" or p.part_kind in ("limits", "minor")),
)
_ASPECT_FILTERS = {"7": _ASPECT_FILTERS_7, "4": _ASPECT_FILTERS_4}


def merge(reviews: Sequence[Mapping[str, str]], aspects: AspectSet) -> tuple[Item, ...]:
    """One review from many, each given by its parts; items in the order of the aspects."""
    return assign_to_aspects(group([points_of(parts) for parts in reviews]), aspects)


def assign_to_aspects(groups: Sequence[PointGroup], aspects: AspectSet) -> tuple[Item, ...]:
    """The items of a review from what its reviewers say; each group is used once at most."""
    left = list(groups)
    chosen: dict[str, list[PointGroup]] = {}
    for key, wanted in _ASPECT_FILTERS[aspects.name]:
        fitting = sorted((g for g in left if wanted(g.point)), key=lambda g: g.rank)
        chosen[key] = _choose(fitting, MAX_ITEMS.get(key, FEW_ITEMS))
        left = [each for each in left if each not in chosen[key]]
    return tuple(item for key in aspects.keys for item in _items(key, chosen.get(key, ())))


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
