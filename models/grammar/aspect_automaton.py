"""One aspect's body as an automaton over token classes.

models/grammar/token_tables.py says what the tables mean and how they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from models.grammar.line_automaton import BODY, BREAK, DONE, LINE, REJECT, TAIL, LineAutomaton
from models.grammar.vocabulary import Vocabulary

Row = NDArray[np.int64]

#: `min_tokens` of an illegal and of an unconditional step; far outside any token budget.
NEVER, ALWAYS = 1 << 30, -(1 << 30)
_AFTER = -2  # "the body has ended", until its number is known
#: Tokens that must be left before a further item is begun: a title and one clause. Fewer would
#: only make a stump.
MIN_ITEM_TOKENS = 24


@dataclass(frozen=True)
class TokenClasses:
    """Tokens that no state tells apart. V tokens, C classes, P states of the line automaton."""

    class_of: Row  # [V]
    next_state: NDArray[np.int16]  # [C, P] the state that a class leads to
    ends_line: NDArray[np.bool_]  # [C]
    lines: LineAutomaton

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, lines: LineAutomaton, singletons: Sequence[int]
    ) -> TokenClasses:
        """Classes of a vocabulary; each token in `singletons` gets a class of its own."""
        next_state = lines.run(vocabulary.pieces)
        ends_line = np.array([(p or b"").endswith(b"\n") for p in vocabulary.pieces])
        singleton_ids = np.zeros(len(next_state), dtype=np.int16)
        singleton_ids[list(singletons)] = np.arange(1, len(singletons) + 1)
        signatures = np.column_stack([next_state, ends_line, singleton_ids])
        numbers: dict[bytes, int] = {}  # np.unique(axis=0) takes ten times as long
        class_of = [numbers.setdefault(row.tobytes(), len(numbers)) for row in signatures]
        members = np.unique(class_of, return_index=True)[1]
        return cls(np.array(class_of), next_state[members], ends_line[members], lines)

    @property
    def count(self) -> int:
        """C."""
        return len(self.ends_line)

    def __getitem__(self, token: int) -> int:
        return int(self.class_of[token])


@dataclass(frozen=True)
class AspectAutomaton:
    """One aspect's body as a pattern that is laid out once per aspect; nodes are numbered from 0.

    `next` holds node numbers, REJECT, or `after` for "the body has ended".
    """

    next: Row  # [nodes, C]
    min_tokens: Row  # [nodes, C]
    first: int
    line: int
    full: int  # stands in for `line` when no more items may be written
    marker_next: int  # where the next token may be the marker's first
    minimum: int  # tokens of the empty body, so that the marker is never out of reach

    @property
    def after(self) -> int:
        """The number that stands for whatever follows the body."""
        return len(self.next)

    @classmethod
    def compile(
        cls, classes: TokenClasses, marker: Sequence[int], suppressed: int
    ) -> AspectAutomaton:
        """`marker` is the empty marker's tokens, `suppressed` the place there of the suppressed."""
        first, line, tail = (classes.lines.number(point) for point in (BODY, LINE, TAIL))
        rows, nodes = _rows(classes, marker)
        after = len(rows)
        rows[rows == _AFTER] = after
        rows[rows == classes.lines.number(BREAK)] = line
        cost = _costs(rows)
        if cost[first] >= NEVER:
            raise UserError("This tokenizer cannot spell the output grammar.")
        min_tokens = np.where(rows == REJECT, NEVER, 1 + cost[rows])
        min_tokens[line] += np.where(
            (rows[line] == REJECT) | (rows[line] == after), 0, MIN_ITEM_TOKENS
        )
        return cls(
            next=rows,
            min_tokens=min_tokens,
            first=first,
            line=line,
            full=len(classes.lines.line_states),
            marker_next=nodes[suppressed],
            minimum=len(marker) + int(cost[tail]),
        )


def _rows(classes: TokenClasses, marker: Sequence[int]) -> tuple[Row, list[int]]:
    """All transitions, and the node at which each marker token is taken.

    Nodes: the line automaton's states, then the full line, then those inside the marker. The latter
    do what their text does, and besides take the marker's next token.
    """
    lines = classes.lines
    first, line, tail, done = (lines.number(point) for point in (BODY, LINE, TAIL, DONE))
    rows = list(classes.next_state.T.astype(np.int64))
    for row in rows:
        row[row == done] = _AFTER
    rows.append(np.where(rows[line] == _AFTER, _AFTER, REJECT))
    nodes, state = [first], first
    for token in marker[:-1]:
        state = int(classes.next_state[classes[token], state])
        rows[nodes[-1]][classes[token]] = len(rows)
        nodes.append(len(rows))
        rows.append(classes.next_state[:, state].astype(np.int64))
    rows[nodes[-1]][classes[marker[-1]]] = tail
    return np.stack(rows), nodes


def _costs(rows: Row) -> Row:
    """The fewest tokens from each node to the end of the body; the last entry is the end."""
    cost = np.full(len(rows) + 1, NEVER, dtype=np.int64)
    cost[-1] = 0
    while True:
        reached = np.where(rows == REJECT, NEVER, 1 + cost[rows]).min(axis=1)
        if (reached >= cost[:-1]).all():
            return cost
        cost[:-1] = np.minimum(cost[:-1], reached)
