"""The output grammar as tables over token classes.

A review is, for each aspect in order, the line `[Heading]`, a body (see line_automaton.py), a blank
line; then the end token. Every state of that language, for every aspect set, is one *node*. Tokens
that no node tells apart form one *class*, so the whole grammar is two small integer tables:

    next[node, class]        the node after a token of that class
    min_tokens[node, class]  how many tokens the aspect then needs at least, this one included

A row may take a token when `min_tokens` fits in what is left of its budget, which is what makes
every
answer complete. Rows that are not guided walk nodes at which everything is legal; those only watch
for the place where suppression acts.

A line always begins with a fresh token, headings are written in their own tokenisation, and so is
the empty marker: suppression at its first token cannot be evaded by spelling it otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from errors import RequestRefused
from models.grammar.aspect_automaton import AspectAutomaton, TokenClasses
from models.grammar.line_automaton import LineAutomaton
from models.grammar.node_layout import NodeTables, StartNodes
from models.grammar.phrases import Phrases
from models.grammar.vocabulary import Vocabulary
from models.text.aspects import AspectSet

#: Items an aspect may hold. Most aspects of the public data hold two, some three; eight cuts none
#: of them and stops a loop of short items.
MAX_ITEMS = 8

#: Columns of a row's state.
NODE, ITEMS, POSITION = range(3)


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


def _columns(nodes: NodeTables) -> dict[str, Any]:
    numbers = range(len(nodes.next))
    return {
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
