"""Papers and faults of a siege, determined by its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

#: A review takes 20 s to minutes on a GPU; the siege runs at about a twentieth of that.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.4, 6.0
#: Median of the times that papers take, in seconds.
MEDIAN_SECONDS = 1.6
#: Faults are due between these shares of ended papers, so that each hits running papers.
FIRST_STRIKE, LAST_STRIKE = 0.04, 0.85
#: Papers that one `cancel` names.
CANCELLED_AT_ONCE = 5


@dataclass(frozen=True)
class Size:
    """Number of papers, and of faults of each kind.

    `poison` papers crash the engine at every attempt, `deadly` ones the whole process.
    """

    papers: int
    poison: int
    deadly: int
    kill: int
    drain: int
    broker: int
    flush: int
    database: int
    drop: int
    freeze: int
    partition: int
    cancel: int
    promote: int


FULL = Size(
    papers=1000,
    poison=9,
    deadly=1,
    kill=10,
    drain=1,
    broker=2,
    flush=1,
    database=1,
    drop=5,
    freeze=1,
    partition=1,
    cancel=4,
    promote=1,
)
SHORT = replace(FULL, papers=300, poison=3, kill=4, broker=1, drop=2, cancel=2)
KINDS = (
    *("kill", "drain", "broker", "flush", "database", "drop", "freeze", "partition", "cancel"),
    "promote",
)


@dataclass(frozen=True)
class Fault:
    """A failure of a kind, due when `after` papers have ended."""

    kind: str
    after: int


def faults(seed: int, size: Size) -> list[Fault]:
    """All faults in a random order, evenly spread over the papers."""
    kinds = [kind for kind in KINDS for _ in range(getattr(size, kind))]
    random.Random(f"{seed} strikes").shuffle(kinds)
    step = (LAST_STRIKE - FIRST_STRIKE) / max(len(kinds) - 1, 1)
    return [
        Fault(kind, int(size.papers * (FIRST_STRIKE + i * step))) for i, kind in enumerate(kinds)
    ]


def scripts(seed: int, size: Size) -> dict[str, str]:
    """What the engine does with each paper, by custom_id."""
    rng = random.Random(f"{seed} papers")
    names = [f"p{i:05}" for i in range(size.papers)]
    special = rng.sample(names, size.poison + size.deadly)
    deadly = set(special[: size.deadly])
    scripted = {name: f"SCRIPT: takes {answer_seconds(rng):.2f}" for name in names}
    for name in special:
        scripted[name] += "\nSCRIPT: die" if name in deadly else "\nSCRIPT: poison"
    return scripted


def cannot_succeed(script: str) -> bool:
    """True for a paper that no worker can review."""
    return "poison" in script or "die" in script


def write(scripted: dict[str, str], folder: Path) -> Path:
    """Write the papers as text files; a file's stem is its custom_id."""
    folder.mkdir(parents=True)
    for name, script in scripted.items():
        body = f"A Study of {name}\n\nAbstract\nWe study {name}.\n\n{script}\n"
        (folder / f"{name}.txt").write_text(body)
    return folder


def answer_seconds(rng: random.Random) -> float:
    """How long one generation takes."""
    return min(max(rng.lognormvariate(0, 0.5) * MEDIAN_SECONDS, SHORTEST_SECONDS), LONGEST_SECONDS)
