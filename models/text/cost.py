"""What reviews by a paid endpoint will cost at most."""

from __future__ import annotations

from errors import UserError
from models.text.reviewer import ReviewerConfig

#: Characters of English scientific text a token, low so that the estimate is an upper bound.
CHARS_PER_TOKEN = 3.5


def max_cost_usd(config: ReviewerConfig, n_chars: int, n_papers: int) -> float | None:
    """Upper bound, in US dollars, of one review of each paper; None when prices are unknown.

    `n_chars` is the length of all papers together. Every answer is taken to be as long as it may.
    """
    endpoint = config.endpoint
    if endpoint is None:
        return None
    prices = endpoint.usd_per_million_input, endpoint.usd_per_million_output
    if prices[0] is None or prices[1] is None:
        return None
    n_system = len(config.aspect_set.system_prompt) * n_papers
    n_input = (n_chars + n_system) / CHARS_PER_TOKEN
    return (n_input * prices[0] + n_papers * config.max_new_tokens * prices[1]) / 1e6


def check_cost_limit(
    config: ReviewerConfig, n_chars: int, n_papers: int, max_usd: float | None
) -> None:
    """UserError when a paid endpoint may cost more than `max_usd`, or names no prices.

    None is no limit, and a local reviewer costs nothing.
    """
    if max_usd is None or config.endpoint is None:
        return
    usd = max_cost_usd(config, n_chars, n_papers)
    if usd is None:
        raise UserError(
            f"Reviewer {config.name} names no prices, so no --max-usd can be kept: give its "
            "endpoint usd_per_million_input and usd_per_million_output."
        )
    if usd > max_usd:
        raise UserError(
            f"Reviews by {config.name} may cost up to ${usd:.2f}, over the limit of "
            f"${max_usd:.2f}: raise --max-usd or name fewer papers."
        )
