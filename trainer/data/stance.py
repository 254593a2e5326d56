"""Classify sentences of a review as praise, criticism, request or neither.

By word lists and negation, without a model, so that equal reviews always merge equally.
"""

from __future__ import annotations

import re
from typing import Literal

Stance = Literal["praise", "criticism", "request", "none"]


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b", re.IGNORECASE)


#: Words that praise. "Novel", "outperforms" and the like do not count: summaries are full of them.
_PRAISE = _words(
    r"good|great|nice(?:ly)?|excellent|interesting|intriguing|strong(?:ly motivated)?|impressive",
    r"convincing(?:ly)?|solid|elegant|thorough(?:ly)?|promising|important|valuable|refreshing",
    r"well[- ](?:written|motivated|organi[sz]ed|structured|presented|executed|done|explained)",
    r"well[- ](?:designed|thought|supported|known|grounded)|clear(?:ly)?|lucid|appreciate",
    r"(?:i )?like(?:d)? (?:the|this|that|how)|enjoy(?:ed)?|easy to (?:follow|read|understand)",
    r"comprehensive|creative|clever|timely|principled|insightful|rigorous|careful(?:ly)?",
    r"simple (?:and|yet|but)|neat|pleasure|innovative|strengths?|happy|makes? sense|fascinating",
    r"surprisingly|useful|novel idea|worth(?:while|y)?|original(?:ity)?|sound|reasonable",
)
_CRITICISM = _words(
    r"unclear|lack(?:s|ing|ed)?|miss(?:es|ing)|weak(?:ness|nesses|er|ly)?|limited",
    r"insufficient(?:ly)?|unfortunately|concern(?:s|ed)?|problem with|problematic|issues?",
    r"confus(?:ing|ed|es)|hard to|difficult to|fail(?:s|ed)? to|poor(?:ly)?|incremental|minimal",
    r"questionable|unconvinc(?:ing|ed)|doubt(?:s|ful)?|wrong|incorrect|inaccurate|overclaim\w*",
    r"overstat\w*|vague(?:ly)?|ambiguous|marginal(?:ly)?|trivial|naive|ad[- ]hoc|restrictive",
    r"narrow|shallow|small[- ]scale|toy|flaw(?:s|ed)?|mislead\w*|inconsisten\w*|unfair",
    r"outdated|redundant|verbose|sloppy|messy|rushed|drawbacks?|downside|limitations?|disagree",
    r"disappoint\w*|suffers?|worse|inferior|unrealistic|unjustified|unsupported|unsurprising",
    r"s[kc]eptical|struggl\w+|too (?:\w+)|lower than|little|hardly|simplistic|over-?complicated",
    r"not (?:\w+ )?(?:clear|convinc\w+|novel|new|enough|sufficient\w*|surpris\w+|well|very|sure)",
    r"not (?:\w+ )?(?:obvious|justified|explained|discussed|compared|supported|fair|addressed)",
    r"not (?:\w+ )?(?:provided|included|described|mentioned|evaluated|reported|understand\w*)",
    r"not (?:\w+ )?(?:see|find|entirely|really|clearly|strong|good|significant\w*|particularly)",
    r"(?:do|does|did|is|are|was|were|ca|has|have|would|could)n['’]?t|(?:do|does|did) not|cannot",
    r"no (?:clear|real|comparison\w*|analysis|discussion|evidence|explanation|experiment\w*)",
    r"no (?:theoretical|mention|justification|details?|ablation\w*|baselines?|results?)",
    r"only (?:one|a|on|two|done|compared?|evaluat\w+|test\w*|consider\w*|show\w*)|nothing",
    r"without (?:any|a|proper)|seems? (?:to be )?(?:a bit|rather|somewhat|quite)|not",
)
_REQUEST = re.compile(
    r"\?\W*$|\b(?:"
    r"should|please|suggest(?:ion|ed|s)?|needs? (?:to|more)|must|clarify|elaborate|curious|typos?"
    r"|(?:would|might|could|will) (?:also |really |further )?(?:be |have been |help|benefit|improve"
    r"|strengthen|like|love|appreciate|want|encourage)"
    r"|(?:can|could|would|do|did|have) (?:you|the authors?|authors)"
    r"|consider (?:adding|using|moving|including|citing)|it is recommended"
    r"|i (?:recommend|encourage|wonder|am (?:curious|wondering|interested))"
    r"|wonder(?:ing)? (?:if|whether|how|why|what)|ought to|better to"
    r"|what (?:is|are|does|do|happens)|how (?:does|do|is|are|did|can|would|many|much)"
    r"|why (?:is|are|does|do|did|not)|add (?:a|an|the|more|some))\b|->",
    re.IGNORECASE,
)
#: Describes what the paper does.
_DESCRIPTION = re.compile(
    r"\W*(?:summary\W+|overview\W+)?(?:in this (?:paper|work),? )?(?:the|this|these|they|it|we)?\s*"
    r"(?:paper|work|manuscript|submission|authors?|article|study|method|model|approach)?"
    r"\W+"
    r"(?:\w+\W+){0,2}(?:propos|present|introduc|describ|stud[yi]|investigat|explor|develop|address"
    r"|consider|tackle|aim|extend|examine|argue|use[sd]?\b|appl(?:y|ies)|show|demonstrat|deals? )",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|nor|hardly|without|cannot|less|least|lacks?|neither|none|nothing)\b|n['’]t\b",
    re.IGNORECASE,
)
_CONTRAST = re.compile(r"\b(?:but|however|although|though|yet|nevertheless|unfortunately)\b", re.I)
#: Characters before a word of praise in which a negation applies to it.
_NEGATION_REACH_CHARS = 25
#: In a sentence with more words, one word of praise says little.
_LONG_SENTENCE_WORDS = 35
#: Minimum characters of a clause that can be the point of its sentence.
_MIN_CLAUSE_CHARS = 20


def stance_of(sentence: str) -> Stance:
    """The stance of one sentence."""
    if _REQUEST.search(sentence):
        return "request"
    turns = list(_CONTRAST.finditer(sentence))
    main = _main_clause(sentence, turns)
    describes = _DESCRIPTION.match(sentence) is not None
    praise, negated = _praise(main)
    criticism = negated + (0 if describes and not turns else len(_CRITICISM.findall(main)))
    if criticism > praise or (criticism and _criticises_first(main)):
        return "criticism"
    if turns and turns[0].start() == 0 and not praise and not describes:
        return "criticism"
    enough = 2 if len(main.split()) > _LONG_SENTENCE_WORDS else 1
    return "praise" if praise >= enough else "none"


def weight_of(text: str, stance: Stance) -> int:
    """Number of words with the stance, up to three: more words make a point more certain."""
    words = {"praise": _PRAISE, "criticism": _CRITICISM}.get(stance)
    return min(3, len(words.findall(text))) if words else 0


def _criticises_first(text: str) -> bool:
    """Which of two equal sides comes first?"""
    praise, criticism = _PRAISE.search(text), _CRITICISM.search(text)
    return praise is None or (criticism is not None and criticism.start() < praise.start())


def _main_clause(sentence: str, turns: list[re.Match[str]]) -> str:
    """The clause after the last contrast: "The idea is nice, but ..." is a criticism."""
    inner = [
        turn
        for turn in turns
        if turn.start() > 0 and turn.end() < len(sentence) - _MIN_CLAUSE_CHARS
    ]
    return sentence[inner[-1].end() :] if inner else sentence


def _praise(text: str) -> tuple[int, int]:
    """Words of praise, and negated ones."""
    found = list(_PRAISE.finditer(text))
    negated = sum(
        _NEGATION.search(text[max(0, match.start() - _NEGATION_REACH_CHARS) : match.start()])
        is not None
        for match in found
    )
    return len(found) - negated, negated
