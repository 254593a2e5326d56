"""Compare suppression with its formula on real prefixes, and print its collateral.

Each paper is followed by a teacher-forced answer. At the token after each aspect's first "<" the
real scores are suppressed, and the sampled distribution is compared with the formula in float64.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.measured import paper_texts, report
from models.grammar.logits_processors import SamplingRows
from models.grammar.phrases import Tokens
from models.grammar.sampling import apply_temperature
from models.grammar.suppression import collateral, suppress
from models.grammar.token_tables import NODE, GrammarTables, advance, allowed_tokens, initial_state
from models.grammar.vocabulary import Vocabulary
from models.text import reviewer
from models.text.aspects import EMPTY_LINE, SEVEN
from models.text.generation import GenerationRequest, Suppression
from models.text.prompt import build_prompt
from models.weights.loading import LoadedModel, load
from testing.small_models import small_model_folder
from testing.tokenizers import TOKENIZERS

COEFFICIENTS = (1.0, 0.95, 0.8, 0.5)
MODES: tuple[Literal["probability", "logit"], ...] = ("probability", "logit")
#: Tolerances of the formula, in probability and in log-odds.
TOLERANCE = 1e-5
#: The formula does not depend on the prompt's length; a short prompt takes a sixth of the time.
PROMPT_TOKENS = 512
#: Empty and other aspects alternate: the untrained model copies the marker from them, so that its
#: probability is neither 0 nor 1.
ANSWER = "".join(
    f"[{aspect.heading}]\n{'<Clear> It is clear.' if number % 2 else EMPTY_LINE}\n\n"
    for number, aspect in enumerate(SEVEN.aspects)
)


def opening_scores(
    loaded: LoadedModel, tables: GrammarTables, request: GenerationRequest, answer: Tokens
) -> tuple[Tensor, Tensor]:
    """Raw scores [aspects, V] where suppression acts, and which of them the grammar allows."""
    prompt = build_prompt(loaded.tokenizer, request, loaded.template).token_ids
    ids = torch.tensor([[*prompt, *answer]], device=loaded.device)
    scores = loaded.model(ids).logits[0].float()
    rows, places, allowed = SamplingRows.of([request], tables), [], []
    state = initial_state(rows.node)
    for step, token in enumerate(answer):
        if tables.marker_next[state[0, NODE]]:
            places.append(len(prompt) + step - 1)
            allowed.append(
                allowed_tokens(tables, state, rows.limit, rows.share, scores.shape[1])[0]
            )
        state = advance(tables, state, torch.tensor([token], device=loaded.device))
    return scores[places], torch.stack(allowed)


def deviation(scores: Tensor, token: int, request: GenerationRequest) -> dict[str, float]:
    """Deviation of the sampled distribution from the formula, and the marker's probabilities."""
    given = request.suppression or Suppression(coefficient=1.0)
    count = len(scores)
    temperature = torch.full((count,), request.temperature, device=scores.device)
    after = suppress(
        scores,
        token,
        torch.ones(count, dtype=torch.bool, device=scores.device),
        coefficient=torch.full((count,), given.coefficient, device=scores.device),
        by_logit=torch.full((count,), given.mode == "logit", device=scores.device),
        temperature=temperature,
    )
    p = apply_temperature(scores, temperature).softmax(-1)[:, token].double()
    p_after = apply_temperature(after, temperature).softmax(-1)[:, token].double()
    odds_factor = _odds_factor(scores[:, token].double(), given, request.temperature)
    expected = odds_factor * p / (1 - p + odds_factor * p)
    others = torch.arange(scores.shape[1], device=scores.device) != token
    moved = (after - scores)[:, others]
    return {
        "probability_error": float((p_after - expected).abs().max()),
        "log_odds_error": float(moved.nan_to_num().abs().max()) / request.temperature,
        "scores_changed": int((after != scores).sum()),
        "mean_before": float(p.mean()),
        "mean_after": float(p_after.mean()),
        "between_1_and_99_percent": int(((p > 0.01) & (p < 0.99)).sum()),
    }


def _odds_factor(raw: Tensor, given: Suppression, temperature: float) -> Tensor:
    """The factor of the marker's odds according to the documented formulas."""
    c = given.coefficient
    if given.mode == "probability":
        return torch.full_like(raw, c)
    return ((torch.where(raw > 0, raw * c, raw / c) - raw) / temperature).exp()


@torch.no_grad()
def measure(count: int) -> dict[str, Any]:
    """All coefficients and modes on the same prefixes."""
    config = reviewer.load(reviewer.builtin()["demo-7"])
    assert config.base is not None
    loaded = load(
        small_model_folder(),
        config.base,
        template=config.template or "",
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    end = loaded.template.end_of_turn_id(loaded.tokenizer)
    tables = GrammarTables.build(loaded.tokenizer, (SEVEN,), end, loaded.device)
    answer, collected = Vocabulary.read(loaded.tokenizer).encode(ANSWER), []
    for name, text in paper_texts(count):
        request = replace(config.request(name, text, 0), max_prompt_tokens=PROMPT_TOKENS)
        scores, allowed = opening_scores(loaded, tables, request, answer)
        collected.append(scores.masked_fill(~allowed, float("-inf")))
    prefixes = torch.cat(collected)
    rows = [
        {"mode": mode, "coefficient": c}
        | deviation(
            prefixes, tables.marker_token, replace(request, suppression=Suppression(mode, c))
        )
        for mode in MODES
        for c in COEFFICIENTS
    ]
    return {"papers": count, "prefixes": len(prefixes), "effect": rows}


def main() -> None:
    """Exit 1 when a formula does not hold."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--papers", type=int, default=50)
    options.add_argument("--json", type=Path, help="write the result there")
    given = options.parse_args()
    found = {name: collateral(TOKENIZERS[name]().tokenizer) for name in ("smollm2", "llama3")}
    results = measure(given.papers)
    report(results | {"collateral": {k: vars(v) for k, v in found.items()}}, given.json)
    for name, each in found.items():
        print(f"{name}: {each}")
    errors = [row[key] for row in results["effect"] for key in row if key.endswith("_error")]
    raise SystemExit(max(errors) > TOLERANCE)


if __name__ == "__main__":
    main()
