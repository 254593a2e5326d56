"""Lays out the nodes of all aspect sets, guided and free; knows nothing of tensors or requests.

models/grammar/token_tables.py says what the tables mean and how they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.grammar.aspect_automaton import ALWAYS, NEVER, Body, Row, TokenClasses
from models.grammar.line_automaton import REJECT
from models.grammar.phrases import Phrases, Tokens

#: The node after the end token, and after a token that the grammar does not know: only the end
#: token is legal there.
FINISHED = 0


@dataclass(frozen=True)
class Start:
    """Where an aspect set's rows begin, and the fewest tokens that its review can take."""

    guided_node: int
    free_node: int
    minimum: int
    n_aspects: int


@dataclass
class Assembly:
    """The nodes of all aspect sets; see `GrammarTables` for what the columns mean."""

    classes: TokenClasses
    body: Body
    end_class: int
    next: list[Row] = field(default_factory=list)
    need: list[Row] = field(default_factory=list)
    reserve: list[int] = field(default_factory=list)
    later: list[int] = field(default_factory=list)
    lines: dict[int, int] = field(default_factory=dict)  # a line's start -> its full stand-in
    bodies: set[int] = field(default_factory=set)
    opens: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._force(self.end_class, FINISHED)

    def place(self, name: str, phrases: Phrases) -> Start:
        """Lay out an aspect set, from its end to its beginning."""
        opener, headings = phrases.openers[name], phrases.headings[name]
        node, reserve = self._force(self.end_class, FINISHED), 1
        for later, heading in enumerate(reversed((opener, *headings[1:]))):
            node = self._chain(heading, self._body(node, reserve, later))
            reserve += len(heading) + self.body.minimum
        free = self._free((opener, *headings), phrases.before_suppressed)
        return Start(node, free, minimum=reserve, n_aspects=len(headings))

    def _add(self, next_row: Row, need_row: Row, reserve: int = 0, later: int = 0) -> int:
        self.next.append(next_row)
        self.need.append(need_row)
        self.reserve.append(reserve)
        self.later.append(later)
        return len(self.next) - 1

    def _force(self, token_class: int, target: int) -> int:
        """A node at which one class alone is legal."""
        next_row = np.full(self.classes.count, FINISHED, dtype=np.int64)
        need_row = np.full(self.classes.count, NEVER, dtype=np.int64)
        next_row[token_class], need_row[token_class] = target, ALWAYS
        return self._add(next_row, need_row)

    def _chain(self, tokens: Tokens, target: int) -> int:
        """Nodes that spell `tokens` and nothing else."""
        for token in reversed(tokens):
            target = self._force(self.classes[token], target)
        return target

    def _body(self, after: int, reserve: int, later: int) -> int:
        """A body that goes on at `after`; returns the node of its beginning."""
        body, base = self.body, len(self.next)
        targets = np.where(body.next == body.after, after, base + body.next)
        targets[body.next == REJECT] = FINISHED
        for next_row, need_row in zip(targets, body.need, strict=True):
            self.bodies.add(self._add(next_row, need_row, reserve, later))
        self.lines[base + body.line] = base + body.full
        self.opens.add(base + body.opens)
        return base + body.first

    def _free(self, headings: Sequence[Tokens], marker: Tokens) -> int:
        """Nodes of unguided rows, where all is legal; returns the node of the answer's beginning.

        They recognise a heading in its own tokenisation at the start of a line, and after it
        `marker`, the marker's tokens before the suppressed one.
        """
        start, text = self._free_node(), self._free_node()
        default = np.where(self.classes.ends_line, start, text)
        default[self.end_class] = FINISHED
        self.next[start], self.next[text] = default.copy(), default
        for heading in headings:
            node = start
            for token in (*heading, *marker):
                node = self._branch(node, self.classes[token], default)
            self.opens.add(node)
        return start

    def _free_node(self) -> int:
        always = np.full(self.classes.count, ALWAYS, dtype=np.int64)
        return self._add(always, always)

    def _branch(self, node: int, token_class: int, default: Row) -> int:
        """The node's child in the tree of headings, made when it is not there."""
        if self.next[node][token_class] == default[token_class]:
            child = self._free_node()
            self.next[child] = default.copy()
            self.next[node][token_class] = child
        return int(self.next[node][token_class])
