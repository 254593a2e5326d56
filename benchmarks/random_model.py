"""Write a model of Llama 3.1 8B's shape and an adapter for it, both with random weights.

`FOLDER/model` and `FOLDER/adapter`, for benchmarks that share them and for rivals' environments.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.throughput import REVIEWER, random_model
from models.adapters.random_adapter import write_random_adapter


def main() -> None:
    """Write both; the folder must not have an adapter yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--tiny", action="store_true", help="try it without a GPU")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = random_model(options.folder, options)
    assert REVIEWER.base is not None
    write_random_adapter(options.folder / "adapter", model, 0, REVIEWER.base.name)
    print(f"written to {options.folder}")


if __name__ == "__main__":
    main()
