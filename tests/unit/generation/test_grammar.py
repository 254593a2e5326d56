"""Token tables compared with regular expressions, and answers for adversarial scores."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from errors import RequestRefused, UserError
from models.grammar.line_automaton import BODY, DONE, LineAutomaton
from models.grammar.logits_processors import SamplingRows
from models.grammar.phrases import Phrases
from models.grammar.token_tables import (
    ITEMS,
    MAX_ITEMS,
    NODE,
    GrammarTables,
    advance,
    allowed_tokens,
    initial_state,
)
from models.grammar.vocabulary import Vocabulary
from models.text.aspects import FOUR, SEVEN
from models.text.generation import GenerationRequest
from models.text.parsing import parse
from testing.tokenizers import TOKENIZERS
from tests.unit.generation.conftest import tables_of
from tests.unit.generation.decoding import decode

NAMES = sorted(TOKENIZERS)
LINES = LineAutomaton()
USELESS = [float("nan"), float("inf"), float("-inf"), -3e38]
Make = Callable[..., GenerationRequest]

# The grammar again, as regular expressions for the body of one aspect.
_TITLE = r"[^<>\s](?:[^<>\n]*[^<>\s])?"
_TEXT = r"\S(?:[^\n]*\S)?"
_NAME = r"(?!(?i:no related terms?)>)"
_ITEM = rf"<{_NAME}{_TITLE}> {_TEXT}\n"
_BODY = re.compile(rf"(?:<No related terms> -\n|(?:{_ITEM}){{1,{MAX_ITEMS}}})\n")
_HALF_ITEM = rf"<{_NAME}(?:[^<>\s][^<>\n]*(?<!\s)(?:>(?: (?:\S[^\n]*)?)?)?)?"
_HALF_TITLE = r"<(?:[^<>\s][^<>\n]*)?"
_HALF_BODY = re.compile(rf"(?:{_ITEM}){{0,{MAX_ITEMS - 1}}}(?:{_HALF_ITEM}|{_HALF_TITLE})")
_MARKER = "<No related terms> -\n\n"
#: Characters that no answer holds: control characters and white space but the plain space.
_FOREIGN = re.compile(r"[^\S \n]|[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def is_beginning(text: str) -> bool:
    """Whether a legal body can begin with this text."""
    if _FOREIGN.search(text):
        return False
    between = re.fullmatch(rf"(?:{_ITEM}){{0,{MAX_ITEMS}}}", text)
    return bool(
        between or _BODY.fullmatch(text) or _HALF_BODY.fullmatch(text) or _MARKER.startswith(text)
    )


_CHARACTERS = st.sampled_from(list("<<>>>  \n\n-.aNo\t\r\u00a0\u2028é日🎉"))
_FRAGMENTS = st.sampled_from(
    ["<No", " related", " terms", "<no related term", "<A> b\n", "<Title", "> ", "> text", " -\n"]
)


@given(st.lists(_FRAGMENTS | _CHARACTERS, max_size=10))
@settings(max_examples=400, deadline=None)
def test_byte_automaton_accepts_exactly_the_grammar(parts: list[str]) -> None:
    text = "".join(parts)
    outcome = LINES.run([text.encode()])[0, LINES.number(BODY)]
    items_only = is_beginning(text) and not (text.startswith(_MARKER[:18]) or "\n<" in text)
    assert (outcome >= 0) == (items_only and text != "")
    ended = outcome == LINES.number(DONE)
    assert ended == bool(outcome >= 0 and _BODY.fullmatch(text))


class Reader:
    """Derives the legal next tokens in the body of an aspect from the text only."""

    def __init__(self, name: str) -> None:
        self.vocabulary = Vocabulary.read(TOKENIZERS[name]().tokenizer)
        self.marker = Phrases.of(self.vocabulary, ()).marker

    def allows(self, before: list[int], token: int) -> bool | None:
        """None where a character is not complete, so that there is no text to read."""
        piece = self.vocabulary.pieces[token]
        if not piece or re.search(rb"\n[^\n]", piece):
            return False
        try:
            text = self.vocabulary.text((*before, token)).decode()
        except UnicodeDecodeError:
            return None
        if text.startswith(_MARKER[:18]):
            spelled = (*before, token)[: len(self.marker)] == self.marker
            return spelled and _MARKER.startswith(text)
        return is_beginning(text)


@pytest.mark.parametrize("name", NAMES)
def test_legal_tokens_are_those_that_the_text_allows(name: str, make_request: Make) -> None:
    tables, reader = tables_of(name), Reader(name)
    rows = SamplingRows.of([make_request(max_new_tokens=9000)], tables)
    first_of_class = {c: t for t, c in reversed(list(enumerate(tables.class_of.tolist())))}

    behind_heading = _to_body(tables, rows)

    @given(st.lists(st.integers(0, 1 << 20) | st.sampled_from([-1, -2]), max_size=12))
    @settings(max_examples=15, deadline=None)
    def check(choices: list[int]) -> None:
        # Given a row behind its first heading
        before: list[int] = []
        state = behind_heading
        for choice in choices:
            allowed = allowed_tokens(tables, state, rows.limit, rows.share, len(tables.class_of))[0]
            # Then one token of each class, and one more, are judged as their text is
            for token in {*first_of_class.values(), choice % len(allowed)}:
                expected = reader.allows(before, token)
                assert expected is None or bool(allowed[token]) == expected
            # When it continues with any legal token, or with the marker
            token = _pick(allowed, choice, reader.marker, len(before))
            before.append(token)
            state = advance(tables, state, torch.tensor([token]))
            if tables.in_body[state[0, NODE]] == 0:
                return

    check()


def _to_body(tables: GrammarTables, rows: SamplingRows) -> torch.Tensor:
    state = initial_state(rows.node)
    while tables.in_body[state[0, NODE]] == 0:
        allowed = allowed_tokens(tables, state, rows.limit, rows.share, len(tables.class_of))
        state = advance(tables, state, allowed.int().argmax(dim=-1))
    return state


def _pick(allowed: torch.Tensor, choice: int, marker: tuple[int, ...], step: int) -> int:
    if choice < 0 and step < len(marker) and allowed[marker[step]]:
        return marker[step]
    tokens = allowed.nonzero().flatten()
    return int(tokens[choice % len(tokens)])


def _favourites(name: str) -> dict[str, list[int]]:
    """Sets of tokens that an adversarial model prefers to all others."""
    each = TOKENIZERS[name]()
    pieces = Vocabulary.read(each.tokenizer).pieces
    named = {token: piece for token, piece in enumerate(pieces) if piece}

    def where(wanted: Callable[[bytes], bool]) -> list[int]:
        return [token for token, piece in named.items() if wanted(piece)]

    return {
        "newline": where(lambda piece: b"\n" in piece),
        "open": where(lambda piece: b"<" in piece),
        "close": where(lambda piece: b">" in piece),
        "space": where(lambda piece: piece.isspace()),
        "end": [each.end_token_id],
        "special": [token for token, piece in enumerate(pieces) if piece is None],
        "half characters": where(lambda piece: max(piece) >= 0x80),
        "marker": list(Phrases.of(Vocabulary.read(each.tokenizer), ()).marker),
        "longest": sorted(named, key=lambda token: -len(named[token]))[:500],
        "nothing": [],
    }


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_complete_for_arbitrary_scores(name: str, make_request: Make) -> None:
    # Given rows that each prefer other tokens, or have no usable scores, and little room
    tables = tables_of(name)
    favourites = list(_favourites(name).values())
    scores = torch.zeros(len(favourites) + len(USELESS), len(tables.class_of))
    for row, tokens in enumerate(favourites):
        scores[row, tokens] = 50.0
    scores[len(favourites) :] = torch.tensor(USELESS)[:, None]
    limit = tables.start_of(FOUR).minimum
    requests = [
        make_request(form=FOUR, max_new_tokens=limit + 20 * (row % 3), seed=row, top_p=1.0)
        for row in range(len(scores))
    ]
    # When they decode
    answers = decode(tables, requests, lambda step: scores)
    # Then every answer ends with the end token and parses strictly
    for answer in answers:
        assert_complete(name, answer)


def test_top_p_keeps_tokens_legal_for_degenerate_scores(make_request: Make) -> None:
    tables = tables_of("smollm2")
    scores = torch.tensor(USELESS)[:, None].repeat(1, len(tables.class_of))
    scores[:, 5:] = 0.0
    limit = tables.start_of(FOUR).minimum
    request = make_request(form=FOUR, max_new_tokens=limit, top_p=0.5)
    for answer in decode(tables, [request] * len(USELESS), lambda step: scores):
        assert_complete("smollm2", answer)


def assert_complete(name: str, answer: list[int]) -> None:
    each = TOKENIZERS[name]()
    assert answer[-1] == each.end_token_id
    text = each.tokenizer.decode(answer, skip_special_tokens=True)
    assert parse(text, FOUR).strict, text


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_below_the_minimum_is_refused(name: str, make_request: Make) -> None:
    tables = tables_of(name)
    for aspects in (SEVEN, FOUR):
        least = tables.start_of(aspects).minimum
        SamplingRows.of([make_request(form=aspects, max_new_tokens=least)], tables)
        with pytest.raises(RequestRefused, match=f"at least {least} tokens"):
            SamplingRows.of([make_request(form=aspects, max_new_tokens=least - 1)], tables)
        SamplingRows.of([make_request(form=aspects, max_new_tokens=1, guided=False)], tables)


def test_an_aspect_holds_at_most_eight_items(make_request: Make) -> None:
    tables = tables_of("sentencepiece")
    vocabulary = Vocabulary.read(TOKENIZERS["sentencepiece"]().tokenizer)
    rows = SamplingRows.of([make_request(max_new_tokens=2000)], tables)
    state, opening = _to_body(tables, rows), vocabulary.pieces.index(b"<")
    for written in range(MAX_ITEMS + 1):
        # Given so many items, then another may begin while there are fewer than eight
        allowed = allowed_tokens(tables, state, rows.limit, rows.share, len(tables.class_of))[0]
        assert bool(allowed[opening]) == (written < MAX_ITEMS)
        for token in vocabulary.encode_line("<a> b\n"):
            state = advance(tables, state, torch.tensor([token]))


def test_a_long_aspect_leaves_room_for_the_later_ones(make_request: Make) -> None:
    # Given a model that never wants to end a line, but likes the letter a
    tables = tables_of("smollm2")
    vocabulary = Vocabulary.read(TOKENIZERS["smollm2"]().tokenizer)
    scores = torch.zeros(1, len(tables.class_of))
    scores[0, vocabulary.pieces.index(b" a")] = 50.0
    scores[0, vocabulary.pieces.index(b">")] = 40.0
    # When it decodes
    request = make_request(max_new_tokens=1150, temperature=0.0, top_p=1.0)
    [answer] = decode(tables, [request], lambda step: scores)
    # Then the first aspect takes about a third, and none of the others less than a tenth
    lengths = [
        len(vocabulary.encode(item.title + item.text))
        for item in parse(vocabulary.text(tuple(answer)).decode(), SEVEN).items
    ]
    assert len(lengths) == 7
    assert 0.25 * 1150 < lengths[0] < 0.45 * 1150
    assert min(lengths) > 0.08 * 1150


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_forced_tokens_is_what_the_grammar_alone_allows(name: str) -> None:
    """At a node with a run, each of its tokens is the only legal one; elsewhere there are more."""
    tables = tables_of(name)
    nodes = torch.arange(len(tables.next))
    n_forced = tables.n_forced
    unlimited, vocabulary = torch.tensor([1 << 20]), len(tables.class_of)
    for node in nodes[n_forced > 0].tolist():
        state = torch.tensor([[node, 0, 5]])
        for place in range(int(n_forced[node])):
            legal = allowed_tokens(tables, state, unlimited, unlimited * 0, vocabulary)
            token = tables.forced[node, place]
            assert legal[0].nonzero().flatten().tolist() == [int(token)]
            assert int(token) != tables.end_token_id
            state = advance(tables, state, token[None])
            assert int(state[0, NODE]) == int(tables.after_forced[node, place + 1])
            assert int(state[0, ITEMS]) == 0
    # Each heading begins in a run, and no free node does.
    starts = tables.starts.values()
    assert all(n_forced[start.guided_node] > 0 for start in starts)
    assert all(n_forced[start.free_node] == 0 for start in starts)
    assert (tables.after_forced[:, 0] == nodes).all()


def test_unguided_rows_may_take_every_token(make_request: Make) -> None:
    tables = tables_of("smollm2")
    rows = SamplingRows.of([make_request(guided=False)], tables)
    state, width = initial_state(rows.node), len(tables.class_of)
    for token in Vocabulary.read(TOKENIZERS["smollm2"]().tokenizer).encode("[Odd\n\n> <"):
        assert allowed_tokens(tables, state, rows.limit, rows.share, width).all()
        state = advance(tables, state, torch.tensor([token]))


def test_ids_beyond_the_tokenizer_are_illegal(make_request: Make) -> None:
    tables = tables_of("sentencepiece")
    width = len(tables.class_of) + 7
    requests = [make_request(guided=guided) for guided in (True, False)]
    rows = SamplingRows.of(requests, tables)
    allowed = allowed_tokens(tables, initial_state(rows.node), rows.limit, rows.share, width)
    assert allowed.shape == (2, width)
    assert not allowed[:, -7:].any()


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    tokenizer = Tokenizer(BPE(vocab={"a": 0}, merges=[]))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(UserError, match="byte-level"):
        GrammarTables.build(tokenizer, (SEVEN,), 0)
