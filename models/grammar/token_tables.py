"""The output grammar as tables over token classes.

A review is, for each aspect in order, the line `[Heading]`, a body (see line_automaton.py), a blank
line; then the end token. Every state of that language, for every aspect set, is one *node*. Tokens
that no node tells apart form one *class*, so the whole grammar is two small integer tables:

    next[node, class]        the node after a token of that class
    min_tokens[node, class]  how many tokens the aspect then needs at least, this one included

A row may take a token when `min_tokens` fits in the rest of its budget, so every answer is
complete. Rows that are not guided move through nodes at which every token is legal; these only find
the place where suppression acts.

At some nodes one token alone is legal, whatever the budget: those of headings, and the blank lines
before them. Engines read a run of such forced tokens without asking for scores in between.

A line always begins with a fresh token, headings are written in their own tokenisation, and so is
the empty marker: suppression at its first token cannot be evaded by spelling it otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from errors import RequestRefused
from models.grammar.aspect_automaton import ALWAYS, NEVER, AspectAutomaton, Row, TokenClasses
from models.grammar.line_automaton import REJECT, LineAutomaton
from models.grammar.phrases import Phrases, Tokens
from models.grammar.vocabulary import Vocabulary
from models.text.aspects import AspectSet

#: Items an aspect may hold. Most aspects of the public data hold two, some three; eight cuts none
#: of them and stops a loop of short items.
MAX_ITEMS = 8

#: The node after the end token, and after a token that the grammar does not know: only the end
#: token is legal there.
FINISHED = 0

#: Forced tokens that are listed for a node: a step reads at most eight tokens of a row.
MAX_FORCED = 7

#: Columns of a row's state.
NODE, ITEMS, POSITION = range(3)


@dataclass(frozen=True)
class StartNodes:
    """Where an aspect set's rows begin, and the fewest tokens that its review can take."""

    guided_node: int
    free_node: int
    minimum: int
    n_aspects: int


@dataclass(frozen=True)
class GrammarTables:
    """Immutable device tables, built once per tokenizer and list of aspect sets.

    V token ids, C classes, S nodes; int64 throughout, so that all devices agree.
    """

    class_of: Tensor  # [V]
    next: Tensor  # [S, C]
    min_tokens: Tensor  # [S, C]
    reserved_tokens: Tensor  # [S] tokens that later aspects need at least, end token included
    later_aspects: Tensor  # [S] number of later aspects
    ends_item: Tensor  # [S] 1 where an item's line has just ended
    in_body: Tensor  # [S] 1 inside a body, where the count of items is kept
    full: Tensor  # [S] the node that takes this one's place once MAX_ITEMS are written
    marker_next: Tensor  # [S] 1 where the next token may be the marker's first
    n_forced: Tensor  # [S] length of the run of forced tokens that begins here, MAX_FORCED at most
    forced: Tensor  # [S, MAX_FORCED] its tokens, then zeros; the end token is not listed
    after_forced: Tensor  # [S, 1 + MAX_FORCED] the node after the first n tokens of the run
    marker_token: int  # the one token that suppression acts on
    end_token_id: int
    starts: Mapping[tuple[str, ...], StartNodes]  # by the headings of an aspect set

    @classmethod
    def build(
        cls,
        tokenizer: Any,
        aspect_sets: Sequence[AspectSet],
        end_token_id: int,
        device: torch.device | str = "cpu",
    ) -> GrammarTables:
        """Compile for a transformers or `tokenizers` tokenizer; one to two seconds for 128,000 ids.

        Raises UserError when the tokenizer cannot be guided.
        """
        vocabulary = Vocabulary.read(tokenizer)
        phrases = Phrases.of(vocabulary, aspect_sets)
        singletons = sorted(phrases.tokens() | {end_token_id})
        classes = TokenClasses.of(vocabulary, LineAutomaton(), singletons)
        body = AspectAutomaton.compile(classes, phrases.marker, phrases.suppressed)
        node_tables = NodeTables(classes, body, classes[end_token_id])
        starts = {
            tuple(each.headings.values()): node_tables.add_aspect_set(each.name, phrases)
            for each in aspect_sets
        }
        return cls(
            **{name: _tensor(column, device) for name, column in _columns(node_tables).items()},
            marker_token=phrases.marker[phrases.suppressed],
            end_token_id=end_token_id,
            starts=starts,
        )

    def start_of(self, form: AspectSet | None) -> StartNodes:
        """Where rows of this form begin. RequestRefused (kind `form`) for one that is not here.

        Without a form there is neither guidance nor suppression, and any free node allows all.
        """
        if form is None:
            return next(iter(self.starts.values()))
        try:
            return self.starts[tuple(form.headings.values())]
        except KeyError:
            raise RequestRefused(
                f"the aspect set {form.name} was added or changed after this worker started: "
                "start the worker again",
                kind="form",
            ) from None


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
    forced: dict[int, tuple[int, int]] = field(default_factory=dict)  # node -> token, next node

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
            node = self._forced_node(self.classes[token], target)
            self.forced[node] = token, target
            target = node
        return target

    def forced_run(self, node: int) -> tuple[list[int], list[int]]:
        """The forced tokens from a node on, MAX_FORCED at most, and the node before each and after.

        No node of a run is in a body, where items are counted.
        """
        tokens: list[int] = []
        nodes = [node]
        while nodes[-1] in self.forced and len(tokens) < MAX_FORCED:
            token, after = self.forced[nodes[-1]]
            tokens.append(token)
            nodes.append(after)
        return tokens, nodes

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


def _columns(nodes: NodeTables) -> dict[str, Any]:
    numbers = range(len(nodes.next))
    runs = [nodes.forced_run(node) for node in numbers]
    return {
        "n_forced": [len(tokens) for tokens, _ in runs],
        "forced": [_padded(tokens, MAX_FORCED) for tokens, _ in runs],
        "after_forced": [_padded(after, 1 + MAX_FORCED) for _, after in runs],
        "class_of": nodes.classes.class_of,
        "next": nodes.next,
        "min_tokens": nodes.min_tokens,
        "reserved_tokens": nodes.reserved_tokens,
        "later_aspects": nodes.later_aspects,
        "ends_item": [node in nodes.lines for node in numbers],
        "in_body": [node in nodes.bodies for node in numbers],
        "full": [nodes.lines.get(node, node) for node in numbers],
        "marker_next": [node in nodes.marker_next for node in numbers],
    }


def _padded(numbers: Sequence[int], length: int) -> list[int]:
    return [*numbers, *[0] * (length - len(numbers))]


def _tensor(column: Any, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.asarray(column, dtype=np.int64)).to(device)


def initial_state(nodes: Tensor) -> Tensor:
    """The state [B, 3] of rows that have written nothing; `nodes` [B] are their starts' nodes."""
    return torch.stack([nodes, torch.zeros_like(nodes), torch.zeros_like(nodes)], dim=1)


def advance(tables: GrammarTables, state: Tensor, token: Tensor) -> Tensor:
    """The state [B, 3] after each row's token [B]. No host synchronisation."""
    node = tables.next[state[:, NODE], tables.class_of[token]]
    items = (state[:, ITEMS] + tables.ends_item[node]) * tables.in_body[node]
    node = torch.where(items >= MAX_ITEMS, tables.full[node], node)
    return torch.stack([node, items, state[:, POSITION] + 1], dim=1)


def allowed_tokens(
    tables: GrammarTables, state: Tensor, limit: Tensor, share: Tensor, width: int
) -> Tensor:
    """Which of `width` token ids each row may take: bool [B, width], never all False in a row.

    `limit` [B] is the row's max_new_tokens, `share` [B] what each later aspect keeps beyond its
    minimum. Ids that the tokenizer does not have are illegal.
    """
    node = state[:, NODE]
    room = (
        limit
        - state[:, POSITION]
        - tables.reserved_tokens[node]
        - tables.later_aspects[node] * share
    )
    classes = tables.min_tokens[node] <= room[:, None]
    tokens = classes.index_select(1, tables.class_of)
    return functional.pad(tokens, (0, width - tokens.shape[1]))
