"""Parsing, refusal and repetition of answers by large models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from db.points import ReviewText
from judge.model_client import (
    TRIES,
    ModelClient,
    Question,
    Unreadable,
    choice,
    json_value,
    request_of,
    whole_number,
)
from judge.model_matchers import LiangMatcher, MargMatcher
from judge.model_points import ModelPoints
from judge.pairwise import ReviewPair, judge
from models.engines.chat import chat_body
from models.text.generation import Generation, GenerationRequest

#: Of an answer.
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}

Answering = Callable[[GenerationRequest], str]


class Scripted:
    """An engine that answers with a function and records its requests."""

    slots = 1
    versions: Mapping[str, str] = {}

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.asked: list[GenerationRequest] = []

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        self.asked.append(request)
        future: Future[Generation] = Future()
        future.set_result(Generation(self._answer(request), (), "stop", 1, 1, 0, 0.0, 0.0))
        return future

    def cancel(self, request_id: str) -> None:
        """Nothing to cancel."""

    def close(self) -> None:
        """Nothing to close."""


def in_turn(*answers: str) -> Answering:
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def verdict(slot: object, **aspects: object) -> str:
    document = {"reasoning": "A is fuller.", "aspects": aspects, "verdict": slot}
    return json.dumps(document)


CONTEST = ReviewPair(1, ["A human text."], "Ours.", "Theirs.", 3, 2, ("idea",))


def judged(engine: Scripted, order: Any = "a") -> list[tuple[str | None, str]]:
    found = judge(CONTEST, ModelClient(engine, "m"), order, equal=False)
    return [(v.aspect, v.outcome) for v in found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('  {"a": "B\\" verdict: A"} ', {"a": 'B" verdict: A'}),
    ],
)
def test_one_json_value_is_read(text: str, value: Any) -> None:
    assert json_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        'Sure! {"verdict": "A"}',
        '{"verdict": "A"} or {"verdict": "B"}',
        '{"verdict": "A", "verdict": "B"}',
        '{"verdict": "A"',
        '{"similarity": NaN}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"answer|quot"):
        json_value(text)


@pytest.mark.parametrize("value", ["A and B", "A.", "'A'", "A or Tie", "", None, 1, ["A"], "AB"])
def test_choice_must_be_a_single_word(value: Any) -> None:
    with pytest.raises(ValueError, match="none of"):
        choice(value, ("A", "B", "Tie"))
    assert choice(" tie ", ("A", "B", "Tie")) == "Tie"


def test_ten_is_read_as_ten() -> None:
    assert [whole_number(v, 0, 10) for v in (10, "10", " 10 ", 7.0, "7")] == [10, 10, 10, 7, 7]
    for value in ("10/10", "seven", 11, -1, 7.5, True, None, "1 0", "²"):
        with pytest.raises(ValueError, match="whole number"):
            whole_number(value, 0, 10)


def test_both_orders_give_the_same_outcome_for_the_same_winner() -> None:
    # Given a judge that prefers one review in either position
    def prefers_ours(request: GenerationRequest) -> str:
        slot = "A" if "Review A\nOurs." in request.text else "B"
        return verdict(slot, idea="Tie")

    # Then both orders say that reviewer a wins
    engine = Scripted(prefers_ours)
    expected = [(None, "win"), ("idea", "tie")]
    assert judged(engine, "a") == judged(engine, "b") == expected
    # And the request contained the answer's schema
    schema = engine.asked[0].json_schema
    assert schema is not None
    assert schema["properties"]["verdict"]["enum"] == ["A", "B", "Tie"]


def test_the_body_of_a_question_is_unchanged() -> None:
    question = Question("q", "Judge this.", "Some material.", SCHEMA)

    bodies = [chat_body(request_of(question, 3, attempt), "m") for attempt in (0, 1)]

    assert [hashlib.sha256(json.dumps(body).encode()).hexdigest() for body in bodies] == [
        "ae21237b0b3d6c476e87b9c3982b34d309d80a609c8c7ba72505a57cd47a4186",
        "4651e33b9331846a53e1b48d9bdfc024885b26d8ddebea48949e850c4d036659",
    ]
    assert request_of(question, 3, 1).id == "q.1"
    assert request_of(question, 3, 1, "77.1.1").id == "77.1.1"


def test_position_biased_judge_is_inconsistent() -> None:
    engine = Scripted(in_turn(verdict("A", idea="A")))
    assert judged(engine, "a")[0] == (None, "win")
    assert judged(engine, "b")[0] == (None, "lose")


@pytest.mark.parametrize(
    "bad", ["A", verdict("A and B", idea="A"), verdict("A"), "", 'The verdict is "A"', "null", "[]"]
)
def test_an_unreadable_verdict_is_asked_for_again_then_invalid(bad: str) -> None:
    once = Scripted(in_turn(bad, verdict("B", idea="B")))
    assert judged(once)[0] == (None, "lose")
    assert len({(request.seed, request.id) for request in once.asked}) == 2
    always = Scripted(in_turn(bad))
    assert judged(always) == [(None, "invalid")]
    assert len(always.asked) == TRIES


def test_liangs_form_keeps_seven_and_more() -> None:
    matches = [
        {"a": "A1", "b": "B2", "reason": "same", "similarity": "10"},
        {"a": "A2", "b": "B1", "reason": "near", "similarity": 6},
        {"a": "A2", "b": "B2", "reason": "same", "similarity": 7},
    ]
    matcher = LiangMatcher(ModelClient(Scripted(in_turn(json.dumps({"matches": matches}))), "m"))
    found = matcher.pairs(["r1", "r2"], ["g1", "g2"])
    assert [(p.reference, p.generated, p.similarity, p.matched) for p in found] == [
        (0, 1, 10.0, True),
        (1, 0, 6.0, False),
        (1, 1, 7.0, True),
    ]


@pytest.mark.parametrize(
    "match",
    [
        {"a": "A3", "b": "B1", "similarity": 9},
        {"a": "B1", "b": "A1", "similarity": 9},
        {"a": "A1", "b": "B1", "similarity": "9 of 10"},
        {"a": "A1", "similarity": 9},
        "A1-B1",
    ],
)
def test_invalid_pair_makes_the_answer_unreadable(match: Any) -> None:
    matcher = LiangMatcher(ModelClient(Scripted(in_turn(json.dumps({"matches": [match]}))), "m"))
    with pytest.raises(Unreadable):
        matcher.pairs(["r1", "r2"], ["g1", "g2"])


def test_margs_form_votes_rates_and_drops_the_vaguer_point() -> None:
    # Given a model that finds r1-g1 always, r2-g2 always, r1-g2 in the first trial only
    def answer(request: GenerationRequest) -> str:
        if request.id.startswith("rate."):
            vague = "g2" in request.text
            specificity = "less" if vague else "same"
            rating = {"reason": "", "relatedness": "high", "specificity": specificity}
            return json.dumps(rating)
        names = {
            line.split(": ")[1]: line.split(": ")[0]
            for line in request.text.split("\n")
            if ": " in line
        }
        pairs = [("r1", "g1"), ("r2", "g2")]
        pairs += [("r1", "g2")] if request.id.startswith("marg.0") else []
        named = [sorted((names[r], names[g])) for r, g in pairs]
        matches = [{"a": a, "b": b, "reason": "", "similarity": 9} for a, b in named]
        return json.dumps({"matches": matches})

    # When it is asked in MARG's form
    engine = Scripted(answer)
    found = {
        (p.reference, p.generated): p
        for p in MargMatcher(ModelClient(engine, "m")).pairs(["r1", "r2"], ["g1", "g2"])
    }
    # Then shuffles and swapped lists are undone, votes counted, and only the specific pair counts
    assert found[0, 0].matched
    assert (found[0, 0].votes, found[0, 0].similarity, found[0, 0].relatedness) == (5, 10.0, "high")
    assert not found[1, 1].matched
    assert found[1, 1].specificity == "less"
    assert (found[0, 1].votes, found[0, 1].matched, found[0, 1].relatedness) == (1, False, None)
    # And the lists came in both orders
    firsts = {
        r.text.split("\n")[1].split(": ")[1][0] for r in engine.asked if r.id.startswith("marg")
    }
    assert firsts == {"r", "g"}


def test_a_models_points_are_texts_without_markers() -> None:
    answer = json.dumps({"points": ["No ablation of  the loss.", "No related terms -", ""]})
    found = ModelPoints(ModelClient(Scripted(in_turn(answer)), "m")).extract(
        ReviewText(1, (), "", "x")
    )
    assert [point.text for point in found] == ["No ablation of the loss."]
    with pytest.raises(Unreadable):
        ModelPoints(ModelClient(Scripted(in_turn('{"points": [1]}')), "m")).extract(
            ReviewText(1, (), "", "x")
        )
