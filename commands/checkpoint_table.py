"""The choice among checkpoints as lines for a terminal and rows for scripts."""

from __future__ import annotations

import math
from typing import Any

from commands.comparison_table import finite, line, standing_row
from judge.checkpoint_choice import Checkpoint, CheckpointChoice, CheckpointComparison


def rows(found: CheckpointChoice) -> list[dict[str, Any]]:
    """A row a checkpoint; the one of the least validation loss, the first, has no standing."""
    rivals = {id(rival.checkpoint): rival for rival in found.rivals}
    checkpoints = [found.incumbent, *(rival.checkpoint for rival in found.rivals)]
    return [
        {
            "step": each.step,
            "validation_loss": finite(each.validation_loss),
            "adapter_sha256": each.adapter_sha256,
            "reviewer": each.version.name,
            "chosen": each is found.best,
            **_standing(rivals.get(id(each))),
        }
        for each in checkpoints
    ]


def _standing(rival: CheckpointComparison | None) -> dict[str, Any]:
    if rival is None or rival.figures is None:
        return {"comparison": rival and rival.comparison}
    told = rival.figures
    hits = {"hits": told.a_hits, "incumbents_hits": told.b_hits}
    return {"comparison": rival.comparison, **standing_row(told.total), **hits}


def sentences(found: CheckpointChoice, name: str) -> list[str]:
    """A line a checkpoint, and how reviewer `name` gets the one that is chosen."""
    best = found.best
    return [
        f"{_named(found.incumbent)}  the least validation loss; the others against it:",
        *(f"{_named(rival.checkpoint)}  {_against(rival)}" for rival in found.rivals),
        f"Chosen: step {best.step}. Use it: referee adapter promote {best.adapter_sha256[:12]} "
        f"--reviewer {name}",
    ]


def _named(checkpoint: Checkpoint) -> str:
    loss = checkpoint.validation_loss
    return f"step {checkpoint.step:<6}" + (f" loss {loss:.4f}" if math.isfinite(loss) else "")


def _against(rival: CheckpointComparison) -> str:
    return line(rival.figures) if rival.figures else "no paper could be matched"
