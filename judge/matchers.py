"""The Matcher protocol, and the offline matcher by sentence embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from judge.cosine import CachedEmbedder, cosines
from judge.matching import MIDPOINT, NEAR, SLOPE, THRESHOLD, PointPair, embedding_pairs
from models.engines.sentence_embedding import NAME, WEIGHTS_SHA256, Vectors


class Matcher(Protocol):
    """Finds the pairs of points that say the same."""

    @property
    def name(self) -> str:
        """Stored with every pair."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Everything that affects the pairs; part of the comparison's configuration."""

    @property
    def assign(self) -> float | None:
        """Threshold from 0 to 10 of a one-to-one assignment; None for many-to-many matches."""

    def prepare(self, texts: Sequence[str]) -> None:
        """Prepare for matching these texts, such as by embedding them in one batch."""

    def pairs(self, reference: Sequence[str], generated: Sequence[str]) -> list[PointPair]:
        """Pairs of two lists. Raises RetryLater or GiveUp when matching fails."""


class EmbeddingMatcher:
    """Cosine similarity of sentence embeddings above a threshold, assigned one to one."""

    name = "embedding"

    def __init__(self, home: Path, threshold: float = THRESHOLD) -> None:
        self._embedder = CachedEmbedder(home)
        self._threshold = threshold
        self._vectors: dict[str, Vectors] = {}

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's weights, the threshold and the curve to likelihoods, by cosine."""
        return {
            "name": self.name,
            "model": NAME,
            "weights_sha256": WEIGHTS_SHA256,
            "threshold": self._threshold,
            "near": NEAR,
            "midpoint": MIDPOINT,
            "slope": SLOPE,
        }

    @property
    def assign(self) -> float:
        """The threshold on the scale of stored similarities."""
        return 10.0 * self._threshold

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed the texts in one batch; one by one takes several times as long."""
        # A set difference would iterate over all vectors for each pair of reviews.
        new = sorted({text for text in texts if text not in self._vectors})
        if new:
            self._vectors |= dict(zip(new, self._embedder.embed(new), strict=True))

    def pairs(self, reference: Sequence[str], generated: Sequence[str]) -> list[PointPair]:
        """Matches and near misses."""
        if not reference or not generated:
            return []
        self.prepare([*reference, *generated])
        return embedding_pairs(
            cosines(self._stack(reference), self._stack(generated)), self._threshold
        )

    def _stack(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        return np.stack([self._vectors[text] for text in texts])
