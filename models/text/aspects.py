"""The two aspect sets of the recipe with their verbatim system prompts."""

from __future__ import annotations

from dataclasses import dataclass

#: Stands in an aspect that has nothing to say; the whole line is EMPTY_MARKER + " -".
EMPTY_MARKER = "<No related terms>"
EMPTY_LINE = EMPTY_MARKER + " -"


@dataclass(frozen=True)
class Aspect:
    """One criterion of a review: `key` names it in the database, `heading` in the answer."""

    key: str
    heading: str


@dataclass(frozen=True)
class AspectSet:
    """The criteria of a review, in order, and the system prompt that asks for them."""

    name: str
    aspects: tuple[Aspect, ...]
    system_prompt: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The aspects' keys in order."""
        return tuple(aspect.key for aspect in self.aspects)


_SYSTEM_7 = """\
Below is an "Instruction" that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.
Instruction:
You are a professional machine learning conference reviewer who reviews a given paper and considers 7 criteria: 
** How to evaluate the idea of the paper **
** Compared to previous similar works, what are the essential differences, such as any fundamental differences, improvements, innovations **
** How to evaluate the experimental results in the paper **
** Potential reasons for acceptance **
** Potential reasons for rejection **
** Other suggestions for further improving the quality of the paper **
** Other important review comments **
The given paper is as follows."""  # noqa: E501, W291 - verbatim: part of the trained model's contract

_SYSTEM_4 = """\
You are a helpful assistant, below is an "Instruction" that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.
Instruction:you are a professional machine learning conference reviewer who reviews a given paper and considers 4 criteria: ** Significance and novelty **** Potential reasons for acceptance **** Potential reasons for rejection **** Suggestions for improvement **
The given paper is as follows."""  # noqa: E501 - verbatim: part of the trained model's contract

SEVEN = AspectSet(
    name="7",
    aspects=(
        Aspect("idea", "How to evaluate the idea of the paper"),
        Aspect(
            "novelty",
            "Compared to previous similar works, what are the essential differences, "
            "such as any fundamental differences, improvements, innovations",
        ),
        Aspect("experiments", "How to evaluate the experimental results in the paper"),
        Aspect("acceptance", "Potential reasons for acceptance"),
        Aspect("rejection", "Potential reasons for rejection"),
        Aspect("suggestions", "Other suggestions for further improving the quality of the paper"),
        Aspect("other", "Other important review comments"),
    ),
    system_prompt=_SYSTEM_7,
)

FOUR = AspectSet(
    name="4",
    aspects=(
        Aspect("significance", "Significance and novelty"),
        Aspect("acceptance", "Potential reasons for acceptance"),
        Aspect("rejection", "Potential reasons for rejection"),
        Aspect("suggestions", "Suggestions for improvement"),
    ),
    system_prompt=_SYSTEM_4,
)

ASPECT_SETS = {"7": SEVEN, "4": FOUR}
