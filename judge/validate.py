"""`python -P -m judge.validate ape|marg|rotten|strangers FILE`: check the judge.

Exit codes are those of `referee`: 2 for a user's mistake, 3 when a part is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from errors import MissingPart, RefereeError, UserError
from judge.statistics import Estimate

_SETS = ("ape", "marg", "rotten", "strangers")


@click.command()
@click.argument("name", type=click.Choice(_SETS), metavar="ape|marg|rotten|strangers")
@click.argument(
    "file", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible server of the judge (rotten).")
@click.option("--model", metavar="NAME", help="Model that the server is asked for (rotten).")
@click.option("--allow-external", is_flag=True, help="The endpoint may be on another site.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def validate(
    name: str,
    file: tuple[Path, ...],
    endpoint: str | None,
    model: str | None,
    allow_external: bool,
    as_json: bool,
) -> None:
    """Compare the judge with published labels and print auc, kappa, spearman and n.

    ape: points of a review and the passages that reply to them; marg: MARG's alignments of
    comments; both by the embedding matcher. rotten: people's ratings of reviews, by a large model.
    strangers: people's reviews against those of other papers; FILE is a splits.json beside
    reviews.jsonl, of one data set or several.
    """
    if name == "strangers":
        figures = _strangers(file)
    elif len(file) > 1:
        raise UserError(f"{name} takes one file.")
    elif name == "rotten":
        figures = _rotten(file[0], endpoint, model, allow_external)
    else:
        figures = _ape(file[0]) if name == "ape" else _marg(file[0])
    if as_json:
        click.echo(json.dumps({"set": name} | figures, ensure_ascii=False, indent=2))
    else:
        _print(figures)


def _ape(file: Path) -> dict[str, Any]:
    from judge.validation.labels import read_passages
    from judge.validation.matcher import check_passages

    return _flat(asdict(check_passages(read_passages(file), _embedder())))


def _marg(file: Path) -> dict[str, Any]:
    from judge.validation.labels import read_alignments
    from judge.validation.matcher import check_alignments

    found = check_alignments(read_alignments(file), _embedder())
    # What this set tests is the order of systems; the correlation of score and label says little.
    return _flat(asdict(found.pairs)) | {
        **_flat({"spearman": asdict(found.order)}),
        "reviews": found.reviews,
        "largest_difference": found.largest_difference,
        "systems": [asdict(system) for system in found.systems],
    }


def _strangers(files: Sequence[Path]) -> dict[str, Any]:
    from judge.matching import THRESHOLD
    from judge.validation.labels import read_reviewed
    from judge.validation.strangers import check_strangers

    training = [paper for file in files for paper in read_reviewed(file, ("train",))]
    held_out = [paper for file in files for paper in read_reviewed(file, ("dev", "test"))]
    found = asdict(check_strangers(training, held_out, _embedder(), THRESHOLD))
    return {
        f"{part}_{key}": value
        for part, figures in found.items()
        for key, value in _flat(figures).items()
    }


def _rotten(
    file: Path, endpoint: str | None, model: str | None, allow_external: bool
) -> dict[str, Any]:
    from judge.judging import JudgeOptions
    from judge.model_client import open_model_client
    from judge.validation.labels import read_rated
    from judge.validation.quality import check_quality, quality_pairs
    from models.engines.api import endpoint_allowed
    from settings import get_settings

    pairs = quality_pairs(read_rated(file))
    if not endpoint or not model:
        raise MissingPart(
            f"The {len(pairs)} pairs of this set need a large model as judge: "
            "name its server and model with --endpoint URL --model NAME."
        )
    settings = get_settings()
    allowed = allow_external or settings.allow_external
    endpoint_allowed(endpoint, allowed, settings.allowed_hosts)
    model_client = open_model_client(
        JudgeOptions(endpoint, model).endpoint, settings.api_key.get_secret_value()
    )
    try:
        found = asdict(check_quality(pairs, model_client))
    finally:
        model_client.close()
    return _flat({"auc": found["accuracy"]} | found)


def _embedder() -> Any:
    from judge.cosine import CachedEmbedder
    from models.engines.sentence_embedding import fetch
    from settings import get_settings

    home = get_settings().home
    fetch(home)
    return CachedEmbedder(home).embed


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each estimate by its value and its bounds."""
    names = set(Estimate.__dataclass_fields__)
    flat: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, dict) and value.keys() == names:
            flat |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        else:
            flat[key] = value
    return flat


def _print(figures: Mapping[str, Any]) -> None:
    for key, value in figures.items():
        if key.endswith(("_low", "_high")):
            continue
        if f"{key}_low" in figures:
            bounds = f"[{figures[f'{key}_low']:.3f}, {figures[f'{key}_high']:.3f}]"
            click.echo(f"{key:20} {value:.3f}  {bounds}")
        elif key == "systems":
            for system in value:
                line = f"published {system['published']:.4f}  ours {system['ours']:.4f}"
                click.echo(f"  {system['system']:18} {line}")
        else:
            click.echo(f"{key:20} {value:.3g}" if isinstance(value, float) else f"{key:20} {value}")


def main() -> None:
    """Run the command; report expected errors as one sentence with an exit code."""
    try:
        sys.exit(validate.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RefereeError as error:
        click.echo(f"judge.validate: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
