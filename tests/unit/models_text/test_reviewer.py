"""Reviewers are read strictly, hashed by all that matters, and complain in one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from errors import UserError
from models.text import bases
from models.text.aspects import SEVEN
from models.text.generation import Suppression
from models.text.reviewer import MAX_PROMPT_TOKENS, ReviewerConfig, builtin, from_json, load

DESIGNED = {
    "demo-7": ("reviews.smollm2-135m", 3_072, 512),
    "demo-4": ("reviews.smollm2-135m", 3_072, 512),
    "llama31-7": ("reviews.llama31-8b", 11_138, 1_150),
    "llama31-4": ("reviews.llama31-8b", 11_138, 1_150),
    "llama3-7": ("reviews.llama3-8b", 7_042, 1_150),
    "llama3-4-qdora": ("reviews.llama3-8b", 7_042, 1_150),
    "llama2-7": ("reviews.llama2-7b", 11_138, 1_150),
    "llama2-4": ("reviews.llama2-7b", 11_138, 1_150),
    "gpt4-1106-7": ("cpu", 11_138, 1_150),
    "gpt4-1106-4": ("cpu", 11_138, 1_150),
}
#: Mergers of human reviews and their queues.
MERGERS = {
    **{f"merged-structured-{aspects}": "cpu" for aspects in "74"},
    **{f"merged-api-{aspects}": "cpu" for aspects in "74"},
    **{f"merged-local-{aspects}": "reviews.llama31-8b" for aspects in "74"},
}
#: Hashes that databases, adapters and reports of earlier versions hold.
SHA256 = {
    "demo-4": "97d2c456f811806b059e81e4a91389234d06a3d7c35d24091beeadf141914813",
    "demo-7": "6491d4463c841263deb0ea2031bffd5e73d2c13b460f6732ac62413203012ac9",
    "gpt4-1106-4": "ee1b884adcd0bb9df863b6d479201d933bea843d4bf41e1fc4136c247fc2472f",
    "gpt4-1106-7": "2f49e1f728a859b0197907e9507ebc8e451054725b639ad10cc1d9666458853f",
    "llama2-4": "12a394d5659929e47ee05a7ba9fc78739c20c3973e3d9569879b541a337e7a1c",
    "llama2-7": "237ddeeb00e52f324c795611d116ff9a6d98d9aff5469e7960efc40639d23f41",
    "llama3-4-qdora": "e327ed227bcba23212ff2e008790ce58c126d600366784c10b17bed455bef0a6",
    "llama3-7": "48a346f94bbce4f33fe73bdce2eefce0bc5e197a059054325ca22ff834540270",
    "llama31-4": "04bc096cc1af62aa7c497434c4834d7b25d6c1af0d573d6d00083914184a1b50",
    "llama31-7": "9a7f291d3c0c293576856667ad49d2524ebb781802e2c0d1a06e57c17cebf6e7",
    "merged-api-4": "0d1e2edd402e5bcd60e2e0debc2084e19c367bcb227c574636d565ace8f4630c",
    "merged-api-7": "88416b9b44652c054867f4de700532a8e3f56b694557a68eb867dd26a42de2d1",
    "merged-local-4": "fab562cb4f0ba3d115dee0ee0ee107eb128256e9fb23184465ff30006f71aec5",
    "merged-local-7": "179718bae9ebbf83635d9d0bd5b3a09d11dc8b4b617c9f181aa446fbc4a3c714",
    "merged-structured-4": "f77e34296385ab4dcce5e9bd36ea22ba123105eedd8bfc85ec4d30d38ced8283",
    "merged-structured-7": "fc82c43dd1d38e114dcdf598cf7e39bf08b18c3b56c03c4d9a0eacff86776740",
}


def document(name: str = "llama31-7") -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(builtin()[name].read_text())
    return loaded


def write(folder: Path, content: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", DESIGNED)
def test_builtin_reviewer_has_its_designed_queue_and_limits(name: str) -> None:
    config = load(builtin()[name])

    assert config.name == name
    assert config.aspects == ("7" if "-7" in name else "4")
    assert (config.queue, config.max_prompt_tokens, config.max_new_tokens) == DESIGNED[name]
    assert (config.temperature, config.top_p) == (0.35, 0.9)


def test_no_builtin_reviewer_is_undesigned_and_all_differ() -> None:
    configs = [load(path) for path in builtin().values()]

    assert {config.name for config in configs} == {*DESIGNED, *MERGERS}
    assert len({config.sha256 for config in configs}) == len(configs)


def test_local_reviewers_are_guided_and_suppressed_as_the_recipe_says() -> None:
    for path in builtin().values():
        config = load(path)
        local = config.kind == "local"
        assert config.guided is (config.base is not None)
        assert config.suppression == (Suppression("logit", 0.95) if local else None)


@pytest.mark.parametrize("name", MERGERS)
def test_a_merger_has_its_queue_and_a_prompt_of_its_own(name: str) -> None:
    config = load(builtin()[name])

    assert (config.kind, config.queue) == ("merged", MERGERS[name])
    assert config.max_request_tokens <= MAX_PROMPT_TOKENS + 1_500
    assert config.system_prompt != config.aspect_set.system_prompt
    if "structured" not in name:
        assert all(f"[{a.heading}]" in config.system_prompt for a in config.aspect_set.aspects)
        assert {"complete", "grounded"} <= set(config.gate.fatal)


@pytest.mark.parametrize("name", builtin())
def test_a_shipped_reviewer_keeps_its_hash(name: str) -> None:
    assert load(builtin()[name]).sha256 == SHA256[name]


@pytest.mark.parametrize("name", bases.builtin())
def test_naming_a_base_is_describing_it(name: str) -> None:
    base = bases.builtin()[name]
    content = {"name": "mine", "kind": "local", "aspects": "4"}
    named = from_json({**content, "base": name})

    assert named.base == base
    assert named == from_json({**content, "base": asdict(base), "template": named.template})
    assert from_json({**content, "base": name, "template": "llama2"}).template == "llama2"


def test_llama2_is_stretched_to_12288_positions() -> None:
    base = load(builtin()["llama2-7"]).base

    assert base is not None
    assert (base.max_context, base.rope_scaling) == (12_288, {"rope_type": "linear", "factor": 3.0})


@pytest.mark.parametrize("name", DESIGNED)
def test_json_gives_the_same_reviewer_back(name: str) -> None:
    config = load(builtin()[name])

    again = from_json(json.loads(json.dumps(config.to_json())))

    assert again == config
    assert again.sha256 == config.sha256


def test_hash_does_not_depend_on_the_name_but_on_all_else() -> None:
    config = load(builtin()["llama31-7"])

    assert replace(config, name="other").sha256 == config.sha256
    changed = [
        replace(config, aspects="4"),
        replace(config, template="llama2"),
        replace(config, adapter_sha256="0" * 64),
        replace(config, weights="bf16"),
        replace(config, arithmetic="fp8"),
        replace(config, suppression=None),
        replace(config, guided=False),
        replace(config, temperature=0.7),
        replace(config, max_new_tokens=1_000),
        replace(config, gate=replace(config.gate, min_words=1)),
    ]
    assert len({config.sha256, *(other.sha256 for other in changed)}) == 1 + len(changed)


def test_hashes_of_shipped_reviewers_are_unchanged() -> None:
    assert {name: load(path).sha256 for name, path in builtin().items()} == SHA256


def test_request_carries_the_reviewers_settings() -> None:
    config = load(builtin()["demo-7"])

    request = config.request("r1", "[TITLE]\nA paper", 7)

    assert (request.id, request.seed) == ("r1", 7)
    assert request.messages == (("system", SEVEN.system_prompt), ("user", "[TITLE]\nA paper"))
    assert request.form is SEVEN
    assert (request.template, request.max_prompt_tokens) == ("chatml", 3_072)
    assert (request.guided, request.suppression) == (True, Suppression("logit", 0.95))
    assert request.temperature == 0.35
    assert config.request("r1", "", 8, temperature=0.7).temperature == 0.7
    assert request.arithmetic == "exact"
    assert replace(config, arithmetic="fp8").request("r1", "", 7).arithmetic == "fp8"


def test_default_prompt_limit_is_the_rest_of_the_context(tmp_path: Path) -> None:
    content = document("llama3-7") | {"max_new_tokens": 2_000}

    assert load(write(tmp_path, content)).max_prompt_tokens == 8_192 - 2_000


def test_reviewer_without_a_model_goes_to_the_cpu_queue() -> None:
    assert ReviewerConfig(name="people", kind="human", aspects="7").queue == "cpu"


BAD = [
    ({"tempreature": 1.0}, r"tempreature: this key is unknown"),
    ({"temperature": "warm"}, r"temperature: .*number"),
    ({"temperature": -0.1}, r"temperature: must not be negative"),
    ({"top_p": 0}, r"top_p: must be above 0"),
    ({"kind": "remote"}, r"kind: .*'local'"),
    ({"arithmetic": "int4"}, r"arithmetic: .*'exact'"),
    ({"aspects": 7}, r"aspects: .*string"),
    ({"aspects": "5"}, r"aspects: must be one of 7, 4"),
    ({"template": "vicuna"}, r"template: must be one of llama3, llama2, chatml"),
    ({"template": None}, r"template: must be one of"),
    ({"base": None}, r"base: a local reviewer needs a base model"),
    (
        {"base": "../llama31-8b"},
        r"base: there is no base model '\.\./llama31-8b': name one of llama2-7b, .*, or describe",
    ),
    ({"base": 7}, r"base: .*"),
    ({"base": {"name": "x"}}, r"base\.\w+: field required"),
    ({"suppression": {"coefficient": 0.0}}, r"suppression\.coefficient: must be above 0"),
    ({"suppression": {"coefficient": 1.5}}, r"suppression\.coefficient: .*at most 1"),
    ({"suppression": {"strength": 1}}, r"suppression\.strength: this key is unknown"),
    ({"max_new_tokens": 0}, r"max_new_tokens: must be above 0"),
    ({"max_new_tokens": 200_000}, r"max_prompt_tokens: .*the context holds 131072"),
    ({"max_new_tokens": 1.5}, r"max_new_tokens: .*integer"),
    ({"weights": "int8"}, r"weights: .*'nf4'"),
    ({"gate": {"fatal": ["typo"]}}, r"gate\.fatal: unknown checks: typo"),
    (
        {"endpoint": {"url": "http://x", "model": "m"}},
        r"endpoint: .*only a merged one may have one",
    ),
    ({"guided": "yes"}, r"guided: .*boolean"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD)
def test_mistake_is_named_with_file_and_key(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=rf"mine\.yaml: {sentence}") as error:
        load(write(tmp_path, document() | change))

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"endpoint": None}, r"endpoint: an api reviewer needs"),
        ({"guided": True}, r"guided: only a local reviewer"),
        ({"suppression": {}}, r"suppression: only a local reviewer"),
        ({"endpoint": {"url": "ftp://x", "model": "m"}}, r"endpoint\.url: must begin with http"),
        (
            {"endpoint": {"url": "http://x", "model": "m", "concurrency": 0}},
            r"endpoint\.concurrency: must be above 0",
        ),
    ],
)
def test_mistake_in_an_api_reviewer_is_named(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load(write(tmp_path, document("gpt4-1106-7") | change))


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", "\x00", "just text"])
def test_file_that_is_no_mapping_is_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)

    with pytest.raises(UserError, match=r"mine\.yaml") as error:
        load(path)

    assert "\n" not in str(error.value)


def test_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the reviewer file"):
        load(tmp_path / "none.yaml")
