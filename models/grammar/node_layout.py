"""Lays out the nodes of all aspect sets, guided and free.

models/grammar/token_tables.py says what the tables mean and how they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.grammar.aspect_automaton import ALWAYS, NEVER, AspectAutomaton, Row, TokenClasses
from models.grammar.line_automaton import REJECT
from models.grammar.phrases import Phrases, Tokens

#: The node after the end token, and after a token that the grammar does not know: only the end
#: token is legal there.
FINISHED = 0


@dataclass(frozen=True)
class StartNodes:
    """Where an aspect set's rows begin, and the fewest tokens that its review can take."""

    guided_node: int
    free_node: int
    minimum: int
    n_aspects: int


@dataclass
class NodeTables:
    """The nodes of all aspect sets; see `GrammarTables` for what the columns mean."""

    classes: TokenClasses
    body: AspectAutomaton
    end_class: int
    next: list[Row] = field(default_factory=list)
    min_tokens: list[Row] = field(default_factory=list)
    reserved_tokens: list[int] = field(default_factory=list)
    later_aspects: list[int] = field(default_factory=list)
    lines: dict[int, int] = field(default_factory=dict)  # a line's start -> its full stand-in
    bodies: set[int] = field(default_factory=set)
    marker_next: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._forced_node(self.end_class, FINISHED)

    def add_aspect_set(self, name: str, phrases: Phrases) -> StartNodes:
        """Lay out an aspect set, from its end to its beginning."""
        opener, headings = phrases.openers[name], phrases.headings[name]
        node, reserved_tokens = self._forced_node(self.end_class, FINISHED), 1
        for later_aspects, heading in enumerate(reversed((opener, *headings[1:]))):
            node = self._chain(heading, self._body(node, reserved_tokens, later_aspects))
            reserved_tokens += len(heading) + self.body.minimum
        free = self._free((opener, *headings), phrases.before_suppressed)
        return StartNodes(node, free, minimum=reserved_tokens, n_aspects=len(headings))

    def _add(
        self, next_row: Row, need_row: Row, reserved_tokens: int = 0, later_aspects: int = 0
    ) -> int:
        self.next.append(next_row)
        self.min_tokens.append(need_row)
        self.reserved_tokens.append(reserved_tokens)
        self.later_aspects.append(later_aspects)
        return len(self.next) - 1

    def _forced_node(self, token_class: int, target: int) -> int:
        """A node at which one class alone is legal."""
        next_row = np.full(self.classes.count, FINISHED, dtype=np.int64)
        need_row = np.full(self.classes.count, NEVER, dtype=np.int64)
        next_row[token_class], need_row[token_class] = target, ALWAYS
        return self._add(next_row, need_row)

    def _chain(self, tokens: Tokens, target: int) -> int:
        """Nodes that spell `tokens` and nothing else."""
        for token in reversed(tokens):
            target = self._forced_node(self.classes[token], target)
        return target

    def _body(self, after: int, reserved_tokens: int, later_aspects: int) -> int:
        """A body that goes on at `after`; returns the node of its beginning."""
        body, base = self.body, len(self.next)
        targets = np.where(body.next == body.after, after, base + body.next)
        targets[body.next == REJECT] = FINISHED
        for next_row, need_row in zip(targets, body.min_tokens, strict=True):
            self.bodies.add(self._add(next_row, need_row, reserved_tokens, later_aspects))
        self.lines[base + body.line] = base + body.full
        self.marker_next.add(base + body.marker_next)
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
            self.marker_next.add(node)
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
