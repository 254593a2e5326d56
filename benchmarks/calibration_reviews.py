"""Reviews at every suppression that `referee judge calibrate` tries, on the machine with the GPU.

Two steps, so that the GPU needs no database:

    python -m benchmarks.calibration_reviews papers REFERENCE papers.jsonl   # where the papers are
    python -m benchmarks.calibration_reviews write papers.jsonl OUT          # on the GPU

The second writes a file a setting, called as `calibrate` calls its reviewer. Back home each is read
with `referee import reviews OUT/NAME.jsonl --reviewer NAME --format text`, and then
`referee judge calibrate --reviewer demo-7 --reference REFERENCE --imported` gives the table.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from judge.calibration import COEFFICIENTS, Mode, SuppressionSetting, settings_of
from models.text.generation import Engine, Generation
from models.text.reviewer import ReviewerConfig, builtin, load

#: A seed is a 31-bit number; a paper has the same one under every setting.
_SEED_DIGITS = 7


@dataclass(frozen=True)
class _Paper:
    sha256: str
    body: str


def main() -> None:
    """Run the given step."""
    options = _options()
    if options.step == "papers":
        _write_papers(options.reference, options.papers)
    else:
        _write_reviews(options)


def _write_papers(reference: str, file: Path) -> None:
    from commands.database import ready_database
    from db.comparisons import reviewed_by
    from db.paper_contents import contents_by_id
    from judge.selecting import version_named

    database = ready_database()
    ids = [i for i, _ in reviewed_by(database, version_named(database, reference))]
    contents = contents_by_id(database, ids)
    lines = [json.dumps({"sha256": c.sha256, "body": c.body}) for c in contents.values()]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} papers in {file}")


def _write_reviews(options: argparse.Namespace) -> None:
    config = _config(options)
    papers = [_Paper(**json.loads(line)) for line in _lines(options.papers)][: options.limit]
    tried = settings_of(config, options.modes, options.coefficients)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    engine = _engine(config, options)
    try:
        for setting in tried:
            _write_setting(engine, setting, papers, options.out)
            print(f"{setting.config.name}: {time.monotonic() - started:.0f} s", flush=True)
    finally:
        engine.close()


def _config(options: argparse.Namespace) -> ReviewerConfig:
    config = load(builtin()[options.reviewer])
    if options.adapter is not None:
        config = replace(config, adapter_sha256=options.adapter)
    if options.model is not None and config.base is not None:
        config = replace(config, base=replace(config.base, hub=str(options.model.absolute())))
    return config


def _engine(config: ReviewerConfig, options: argparse.Namespace) -> Engine:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from dispatch.kinds import ModelUse
    from models.weights import store
    from settings import Settings
    from worker.engines import load_local

    settings = Settings(**({"home": options.home} if options.home else {}))
    pool = load_local(
        config,
        settings,
        fetch_adapter=lambda sha256: store.find_adapter(sha256, settings.home),
        weights=options.weights,
        slots=options.slots,
    )
    return pool.engine_for(ModelUse.of(config.sha256, config), False)


def _write_setting(
    engine: Engine, setting: SuppressionSetting, papers: Sequence[_Paper], out: Path
) -> None:
    """Submit all papers at once; the engine queues those without a slot."""
    futures = [(paper, _submit(engine, setting, paper)) for paper in papers]
    lines = [
        json.dumps({"custom_id": paper.sha256, "text": future.result().text}, ensure_ascii=False)
        for paper, future in futures
    ]
    file = out / f"{setting.config.name}.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _submit(engine: Engine, setting: SuppressionSetting, paper: _Paper) -> Future[Generation]:
    seed = int(paper.sha256[:_SEED_DIGITS], 16)
    name = f"{setting.label}.{paper.sha256}"
    return engine.submit(setting.config.request(name, paper.body, seed))


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as stream:
        yield from (line for line in stream if line.strip())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    papers = steps.add_parser("papers")
    papers.add_argument("reference")
    papers.add_argument("papers", type=Path)
    write = steps.add_parser("write")
    write.add_argument("papers", type=Path)
    write.add_argument("out", type=Path)
    write.add_argument("--reviewer", default="demo-7")
    write.add_argument("--model", type=Path, help="folder of the base model")
    write.add_argument("--adapter", help="sha256 of an adapter under HOME/adapters")
    write.add_argument("--home", type=Path, help="instead of REFEREE_HOME")
    write.add_argument("--weights", choices=("nf4", "bf16"), default="nf4")
    write.add_argument("--slots", type=int)
    write.add_argument("--limit", type=int, help="only the first so many papers")
    modes: list[Mode] = ["logit", "probability"]
    write.add_argument("--modes", nargs="+", choices=modes, default=modes)
    write.add_argument("--coefficients", nargs="+", type=float, default=COEFFICIENTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
