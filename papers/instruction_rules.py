"""The rules of what reads like an instruction to a reviewer, by language.

Patterns match text in lower case and without accents. A rule is tried near its stems only, so a
stem is a part of what the pattern must contain.
"""
# ruff: noqa: E501  (a line for each group of alternatives reads better than a wrapped one)

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

OVERRIDES = "overrides a reviewer's instructions"
FAVOUR = "asks for a favourable review"
ACCEPTANCE = "asks for acceptance"
SILENCE = "asks to leave out weaknesses"
ADDRESS = "speaks to an AI reviewer"
WORDS = "asks for certain words in a review"
PLEA = "pleads with a reviewer"


@dataclass(frozen=True)
class Rule:
    """A pattern of an instruction. `is_order`: it counts only where a clause may begin."""

    reason: str
    stems: tuple[str, ...]
    source: str
    is_order: bool = True
    about_source: str | None = None

    @property
    def pattern(self) -> re.Pattern[str]:
        """The pattern of the instruction."""
        return _compile(self.source)

    @property
    def about(self) -> re.Pattern[str] | None:
        """The pattern of what must stand around it."""
        return None if self.about_source is None else _compile(self.about_source)


@dataclass(frozen=True)
class Language:
    """The rules of a language. `lead`: words after which an order may follow.

    A text without any of the `marks`, or any letter of the `script`, is not in the language.
    """

    lead: re.Pattern[str]
    rules: tuple[Rule, ...]
    script: re.Pattern[str] | None = None
    marks: tuple[str, ...] = ()

    def present(self, folded: str) -> bool:
        """May the text contain the language?"""
        if self.script is not None:
            return not folded.isascii() and self.script.search(folded) is not None
        return not self.marks or any(mark in folded for mark in self.marks)


def _order(reason: str, stems: str, pattern: str, about: str | None = None) -> Rule:
    return _rule(reason, stems, pattern, about, is_order=True)


def _statement(reason: str, stems: str, pattern: str, about: str | None = None) -> Rule:
    return _rule(reason, stems, pattern, about, is_order=False)


def _rule(reason: str, stems: str, pattern: str, about: str | None, *, is_order: bool) -> Rule:
    return Rule(reason, tuple(stems.split("|")), pattern, is_order, about)


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    """Compile a pattern whose words may be separated by a line break.

    On first use: all of them take longer to compile than most papers take to be searched.
    """
    return re.compile(pattern.replace("[- ]", r"[-\s]").replace(" ?", r"\s*").replace(" ", r"\s+"))


# English ---------------------------------------------------------------------------------------

_W = r"(?:[\w'/-]+ ){0,%d}?"
_MACHINE = (
    r"(?:ai|a\.i\.|llms?|large language models?|language models?|artificial intelligence"
    r"|chat ?gpt|gpt(?:-?\d\w*)?|claude|gemini|copilot|chatbots?|automated|automatic|machine)"
)
_GOOD = (
    r"(?:positive|favou?rable|glowing|enthusiastic|excellent|outstanding|great|good|high|higher"
    r"|highest|top|maximum|maximal|perfect|full|best|generous|lenient|supportive|strong"
    r"|very high|10 ?/ ?10|5 ?/ ?5|(?:10|ten) (?:out of|of) (?:10|ten)|exceptional)"
)
_BAD = (
    r"(?:negatives?|negativity|negative (?:\w+ )?\w+|weakness(?:es)?|flaws?|shortcomings?"
    r"|drawbacks?|criticisms?|critiques?|faults?|limitations?|weak points?|problems?|concerns?)"
)
_SUBJECT = r"review|referee|\baccept|recommend(?:ation|ing|) |\bthis paper\b|\bthe paper\b|\bour paper\b|submission|manuscript"

_ENGLISH = Language(
    lead=re.compile(
        r"(?:\b(?:please|pls|kindly|now|instead|therefore|then|just|simply|only|always|must only)"
        r"|\b(?:you|reviewers?|referees?|ai|llms?|assistants?) (?:\w+ly )?(?:must|should|shall|will"
        r"|need to|have to|ought to|are to|can only|may only|should only|must always)(?: \w+ly)?"
        r"|\byou (?:\w+ ){0,5}to|\bwe (?:\w+ )?(?:ask|request|urge|beg|invite|implore|encourage"
        r"|instruct) (?:\w+ ){0,4}(?:reviewers?|referees?|ai|llms?|you) to"
        r"|^(?:\s*)(?:read|ignore|disregard|forget|consider|treat|assume|analy[sz]e)\b[^.!?]*\band"
        r"|\bplease consider|\b(?:reviewers?|referees?|ai|llms?|language models?|ai systems?)"
        r"(?: (?!not )\w+){0,6} (?:must|shall)"
        r"|[.!?:\n]\s*(?:read|ignore|disregard|forget|treat|assume)\b[^.!?]*\b(?:and|then)"
        r"|\b(?:instruction|instructions|note|command|task|reminder) (?:is|are|is to|are to))$"
    ),
    rules=(
        _order(
            OVERRIDES,
            "ignore|disregard|forget|overrid|bypass|neglect|discard|not follow|n't follow|stop follow"
            "|no attention",
            r"(?:ignore|disregard|forget|override|bypass|neglect|discard|(?:do not|don't|stop) follow(?:ing)?"
            r"|pay no attention to) "
            + _W
            % 4
            + r"(?:previous|prior|above|earlier|preceding|foregoing"
            r"|existing|original|initial|former|other|all|any|your|system|these|those) "
            + _W
            % 3
            + r"(?:instructions?|prompts?|directions?|directives?|guidelines?|commands?|orders?|rules?"
            r"|criteria|messages?)\b"
            r"|(?:ignore|disregard|forget) (?:everything|anything|all)(?: that)? (?:you|above|before|said|written)\b",
            about=r"review|referee|\baccept|\bscores?\b|\brating|\brate (?:this|the)|positive|favou?rabl|praise",
        ),
        _order(
            FAVOUR,
            "review|recommendation|assessment|evaluation|feedback|verdict|report",
            r"(?:give|write|provide|output|generate|produce|return|award|issue|submit|post|leave|make"
            r"|offer|deliver|draft|compose|(?:answer|respond|reply|conclude|end) (?:only )?with"
            r"|ensure|grant) (?:us |me |it |only |out )?"
            + _W % 4
            + _GOOD
            + r"(?:,? (?:and )?\w+){0,2} "
            r"(?:peer )?(?:reviews?|recommendations?|assessments?|evaluations?|feedback|verdict|report)\b",
            about=_SUBJECT,
        ),
        _order(
            FAVOUR,
            "score|rating|grade|mark|rate|confidence|stars|points",
            r"(?:(?:give|giving|assign|assigning|award|awarding|grant|output|return|provide|set|choose|select|rate|score|grade"
            r"|mark|evaluate|judge|assess|rank) "
            + _W % 6
            + r"(?:as )?"
            + _W % 3
            + r"(?:"
            + _GOOD
            + r" (?:\w+ ){0,2}(?:scores?|ratings?|grades?|marks?|points|stars)|highly"
            r"|(?:10|ten|9|nine) ?(?:/|out of|of) ?(?:10|ten)|(?:score|rating)s? (?:of |above |over |greater than |higher than |at least |no (?:less|lower) than )?(?:[789]|10|ten)\b)"
            r"|(?:raise|raising|increase|increasing|upgrade|bump) (?:your|their|the) (?:\w+ )?(?:scores?|ratings?)\b)",
            about=r"your review|reviewing|\baccept|(?:this|our|my|the) (?:paper|submission|manuscript)\b"
            r"|(?:this|our|my) (?:article|work)\b|dear (?:\w+ )?reviewers?|(?:ai|llm|as a) reviewers?",
        ),
        _order(
            FAVOUR,
            "strength|novelt|contribution|merit|impact|rigor|rigour|quality",
            r"(?:emphasi[sz]e|highlight|praise|extol|laud|stress|focus (?:only |solely |exclusively )?on"
            r"|mention only|only mention|discuss only|comment only on) "
            + _W
            % 5
            + r"(?:strengths?|strong points?|novelty|contributions?|merits?|impact|rigou?r|quality)"
            r"(?: and \w+)? (?:of|in) (?:this|the|our|my) (?:paper|submission|manuscript|article|work)\b",
            about=r"review|referee|\baccept|\bscore|weakness|groundbreaking|transformative",
        ),
        _order(
            ACCEPTANCE,
            "accept|publication|publish",
            r"(?:(?:recommend|suggest|advise|advocate|vote|endorse|support|argue|push) (?:for |to |strongly |clearly )*"
            + _W % 4
            + r"(?:accept(?:ance|ing|ed)?|publication|publishing)\b"
            r"|(?:accept|approve|publish) (?:this|our|my|the) (?:\w+ )?(?:paper|submission|manuscript|article)\b"
            r"|consider (?:this|our|my) (?:\w+ )?(?:paper|submission|manuscript|article|work) for (?:acceptance|publication)"
            r"|(?:rate|mark|score|label|classify|grade|give|assign|output|answer|return|choose|select|say|respond with)"
            r" " + _W % 6 + r"\"?(?:strong(?:ly)?|clear|definite|certain)? ?accept(?:ed|ance)?\b)",
            about=r"review|referee|paper|submission|manuscript|article|" + _MACHINE + r"\b",
        ),
        _order(
            SILENCE,
            "negativ|weak|flaw|shortcoming|drawback|critici|critique|fault|limitation|problem|concern",
            r"(?:(?:do not|don't|never|must not|should not|avoid|refrain from|no need to|not) "
            r"(?:\w+ly )?(?:mention|highlight|point(?:ing)? out|list|report|rais|criticiz|criticis|includ"
            r"|discuss|not|stat|giv|writ|provid|output|identify|emphasi[sz]|focus|dwell|say|produc|bring)"
            r"\w* " + _W % 6 + _BAD + r"\b"
            r"|(?:ignore|downplay|overlook|minimi[sz]e|omit|skip|leave out|hide|excuse|forgive) "
            + _W % 4
            + _BAD
            + r"\b)",
            about=r"review|referee|\baccept|this paper|our paper|the paper|submission|manuscript",
        ),
        _order(
            ACCEPTANCE,
            "reject",
            r"(?:do not|don't|never|must not|should not|cannot) (?:\w+ )?reject (?:this|our|my|the) (?:\w+ )?"
            r"(?:paper|submission|manuscript|article|work)\b",
        ),
        _order(
            SILENCE,
            "strength|strong points|positive|merits|advantages",
            r"(?:only|solely|exclusively) (?:discuss|mention|comment on|describe|list|report|focus on|talk about|highlight|write about|praise)"
            r" (?:the |its |our |their )?(?:\w+ )?(?:strengths?|strong points|positives?|positive aspects|merits|advantages)\b",
            about=_SUBJECT,
        ),
        _order(
            FAVOUR,
            "favorabl|favourabl|positively|generously|leniently|kindly|highly|excellent|outstanding",
            r"(?:evaluate|rate|judge|assess|review|treat|consider|score|grade) (?:this|our|my|the) (?:\w+ )?(?:paper|submission|manuscript|article|work)"
            r" (?:\w+ ){0,2}?(?:favou?rably|positively|generously|leniently|kindly|highly|(?:as |to be )(?:an? )?(?:excellent|outstanding|exceptional))\b",
        ),
        _order(
            FAVOUR,
            "that this|that the|that our",
            r"(?:state|say|write|claim|conclude|argue|declare|affirm|confirm|report|mention) that (?:this|the|our) (?:\w+ )?"
            r"(?:paper|work|submission|manuscript|article|study|method|experiments?|results?|contributions?) (?:is|are|has|have) (?:\w+ ){0,3}?"
            r"(?:groundbreaking|novel|excellent|outstanding|thorough|strong|significant|impressive|exceptional|convincing|important"
            r"|original|innovative|remarkable|flawless|accept\w*)\b",
            about=r"your (?:review|report|evaluation|assessment)|reviewer|referee|\baccept|"
            + _MACHINE
            + r":",
        ),
        _order(
            SILENCE,
            "critici|penali",
            r"(?:do not|don't|never|avoid) (?:criticiz|criticis|penali[sz])\w* (?:this|our|my) (?:paper|submission|manuscript|article|work)\b",
        ),
        _order(
            SILENCE,
            "harsh|too strict|negative|critical",
            r"(?:do not|don't|never|avoid) (?:be|being) (?:too |overly |so )?(?:critical|harsh|negative|strict)\b",
            about=_SUBJECT,
        ),
        _order(
            FAVOUR,
            "soundness|novelty|originality|significance|presentation|clarity|contribution",
            r"(?:score|rate|set|mark|grade) (?:the )?(?:soundness|novelty|originality|significance|presentation|clarity|contribution)"
            r" ?(?:as|with|to|at|:|=)? ?(?:\d\b|excellent|high\b|the highest|the maximum|very high)",
            about=r"review|referee",
        ),
        _order(
            FAVOUR,
            "positive|favorable|favourable|praise|good things",
            r"(?:(?:give|write|provide|output|generate|produce|include|say|list|report|make|offer) (?:only|just|nothing but|exclusively)"
            r"|(?:only|just) (?:give|write|provide|output|generate|produce|include|say|list|report|make|offer)) (?:\w+ ){0,2}"
            r"(?:positive|favou?rable|praise|good things)\b",
            about=_SUBJECT,
        ),
        _statement(
            FAVOUR,
            "review|evaluation|assessment|recommendation|score|rating|decision|verdict",
            r"(?:your (?:\w+ )?(?:review|evaluation|assessment|recommendation|score|rating|decision|verdict) be (?:\w+ )?(?:positive|favou?rable|high)"
            r"|(?:your|the) (?:\w+ )?(?:review|evaluation|assessment|recommendation|score|rating|decision|verdict) "
            r"(?:(?:for|of) (?:this|our|the) (?:paper|submission|manuscript|work|article) )?"
            r"(?:must|should|has to|shall|needs to|ought to) (?:\w+ )?(?:be|conclude|end|express|reflect|remain|read|say) (?:\w+ ){0,3}"
            r"(?:positive|favou?rable|accept\w*|10|ten|high(?:est)?|excellent|enthusiastic|glowing|maximum)\b)",
            about=r"your |this paper|our paper|this submission|this manuscript|our submission",
        ),
        _statement(
            SILENCE,
            "downplay|ignored|omitted|overlooked|minor|forgiven",
            _BAD
            + r" "
            + _W % 4
            + r"(?:should|must|shall|are to|is to) (?:\w+ )?be (?:\w+ly )?(?:downplayed|ignored"
            r"|omitted|overlooked|forgiven|treated as minor|considered minor)\b",
            about=r"review|referee|\baccept|strengths|your",
        ),
        _statement(
            ADDRESS,
            "if you are|if you're|if this|when you|you, ",
            r"if (?:you are|you're|this (?:paper|text|document|manuscript|submission) is (?:being )?(?:read|reviewed|evaluated|processed|assessed) by) "
            r"(?:an? |the |any )?" + _W % 2 + _MACHINE + r"\b",
            about=r"review|referee|\baccept|\brate\b|\bscore\b|recommend|favou?rabl|positive",
        ),
        _order(
            ADDRESS,
            "llm|language model|gpt|artificial int|chatbot| ai |\nai | ai-| ai:| ai,|automated|automatic|machine|claude|gemini|copilot",
            r"(?:(?:dear|attention|hello|hi|hey|(?:[a-z]+ )?(?:note|message|reminder|instructions?) (?:to|for))"
            r" (?:the |any |all |every |an? |our )?"
            + _W % 1
            + _MACHINE
            + r"(?:[- ](?:based|powered|assisted|model|tool))*(?: (?:reviewers?|referees?|assistants?|agents?|systems?|models?"
            r"|tools?|readers?))?s? ?[:,!]"
            r"|(?:to|for) (?:the |any |all |every |an? |our )?"
            + _W % 1
            + _MACHINE
            + r"(?:[- ](?:based|powered|assisted))* (?:reviewers?|referees?|readers?|evaluators?)(?: \w+){0,4} ?[:,!])",
            about=r"review|referee|\baccept|\bscore\b|recommend|favou?rabl|positive",
        ),
        _statement(
            ADDRESS,
            "you ",
            r"as (?:an? |the )?(?:\w+ )?"
            + _MACHINE
            + r"\b[^.!?\n]{0,60}?,? you (?:must|should|shall|will|are|have|need)\b",
            about=r"review|referee|\baccept|\bscore\b|recommend|favou?rabl|positive",
        ),
        _order(
            WORDS,
            "your review|your report|your evaluation|your assessment|your comments|your feedback"
            "|your summary|the review|your response",
            r"(?:include|insert|use|mention|add|put|place|start|begin|open|end|finish|close|cite|repeat|write|quote)"
            r"\b[^.!?\n]{0,160}?\b(?:in|into|to|with|within|of|at|throughout)? ?(?:your (?:\w+ )?(?:review|report|evaluation|assessment|comments"
            r"|feedback|summary|response)|the review (?:text|form|report))\b",
            about=r"\breview|referee",
        ),
        _order(
            PLEA,
            "kind|lenient|generous|gentle|nice|merciful|favo|positive|benevolent|supportive|forgiving",
            r"(?:be|remain|stay) (?:\w+ ){0,2}(?:kind|lenient|generous|gentle|nice|merciful|favou?rable|positive"
            r"|benevolent|supportive|forgiving)\b",
            about=r"\b(?:dear |ai |llm )?(?:reviewers?|referees?)\b|your review|when (?:review|scor|evaluat|judg|assess)ing",
        ),
        _statement(
            PLEA,
            "depend|mercy|grateful|thankful|glad|appreciat|hope|beg|favour|favor|plead|pray|request",
            r"(?:(?:we|i) (?:\w+ly )?(?:request|ask for|beg for|plead for|would appreciate|would welcome) (?:an? )?(?:\w+ )?"
            r"(?:positive|favou?rable|generous|lenient|high) (?:review|score|rating|evaluation|decision|recommendation)"
            r"|(?:career|graduation|degree|ph\.?d|tenure|visa|job|thesis|scholarship|funding|future) (?:\w+ )?depends? (?:\w+ )?on"
            r"|have mercy|would (?:be )?(?:\w+ )?(?:grateful|appreciate|thankful|appreciative|glad) (?:\w+ ){0,4}(?:positive|favou?rable|high|accept)"
            r"|(?:we|i) (?:\w+ly )?(?:hope|beg|pray|plead|appeal) (?:\w+ ){0,6}(?:accept|favou?rabl|positive|raise|increase|high))",
            about=r"\breviewers?\b|\breferees?\b|your (?:review|score|rating)|area chair|(?:positive|favou?rable) review",
        ),
        _order(
            ACCEPTANCE,
            "accepted|published|acceptance|accept|publication|highest|award",
            r"(?:this|our|my) (?:\w+ )?(?:paper|submission|manuscript) (?:\w+ly )?(?:must|should|has to|ought to|deserves to"
            r"|needs to|shall|(?:deserves|merits|warrants|is worthy of))"
            r" (?:be |a |an |the )*(?:\w+ly )?(?:strong |clear |full |immediate |highest |top |very )*"
            r"(?:accept(?:ed|ance)?|published|publication|(?:positive|favou?rable|high|highest|top|best) (?:review|score|rating|recommendation)s?)\b",
        ),
        _statement(
            PLEA,
            "reviewer|referee",
            r"(?:reviewers?|referees?) (?:should|must|shall|are (?:\w+ )?(?:asked|required|instructed|requested|urged|encouraged) to) "
            r"(?:\w+ly )?(?:accept|recommend (?:\w+ )?accept\w*|give (?:\w+ ){0,4}"
            + _GOOD
            + r" \w+|rate (?:\w+ ){0,3}high\w*"
            r"|be (?:\w+ )?(?:kind|lenient|generous|favou?rable|positive))\b",
        ),
        _statement(
            PLEA,
            "you are|act as|behave|pretend",
            r"(?:you are (?:now )?|(?:act|behave|pretend) (?:as|like|to be) )(?:an? )?"
            + _W % 3
            + r"(?:lenient|friendly|generous|positive|supportive|enthusiastic|kind|biased|easy) (?:\w+ ){0,3}(?:reviewer|referee)\b",
        ),
    ),
)

# Chinese, Japanese, Korean ---------------------------------------------------------------------

_CHINESE = Language(
    lead=re.compile(
        r"(?:请|必须|务必|应当|应该|应|须|需|要|只|仅|并|且|然后|同时|希望|恳请|恳求|你|您|时|時|中|里)$"
    ),
    script=re.compile("[\u4e00-\u9fff]"),
    rules=(
        _order(
            OVERRIDES,
            "指令|指示|提示|说明|要求|规则|命令|設定|指引",
            r"(?:忽略|无视|無視|忘记|忘掉|忘記|不要理会|不要遵循|跳过|覆盖)[^。！？\n]{0,12}(?:之前|以上|上述|前面|先前|此前|所有|全部|一切|原有|任何|上面|其他|系统)[^。！？\n]{0,8}"
            r"(?:指令|指示|提示|说明|要求|规则|命令|设定|指引)",
            about=r"审|评|接收|接受|录用|分|論文|论文|審|評",
        ),
        _order(
            FAVOUR,
            "评|审|意见|分|評|審|推荐",
            r"(?:给|给出|给予|提供|撰写|写|写出|输出|生成|打|打出|做出|作出|給|給予|給出|寫|返回|评|评为|打个)[^。！？\n]{0,12}"
            r"(?:正面|积极|积極|肯定|好评|好評|高分|最高|满分|滿分|优秀|高度|有利|良好|較高|较高|高的)[^。！？\n]{0,12}"
            r"(?:评审|审稿|评价|意见|评分|分数|分|评语|评估|审查|推荐|評審|審稿|評價|意見|評分|分數)?",
            about=r"审稿|评审|评价|评分|审查|論文|论文|稿件|本文|審稿|評審|評價",
        ),
        _order(
            ACCEPTANCE,
            "接收|接受|录用|录取|发表|錄用",
            r"(?:推荐|建议|同意|支持|批准|直接|給予|给予)?(?:接收|接受|录用|录取|錄用|发表)(?:本文|本论文|这篇|該|该|此|我们的|本稿|論文|论文|稿件)"
            r"|(?:推荐|建议|推薦|建議)[^。！？\n]{0,8}(?:接收|接受|录用|錄用|发表)",
            about=r"审|评|論文|论文|稿|本文|審|評",
        ),
        _order(
            SILENCE,
            "缺点|不足|弱点|缺陷|局限|问题|负面|批评|缺點|缺失|負面|弱點",
            r"(?:不要|请勿|切勿|勿|别|不得|避免|不必|忽略|淡化|不應|不应|禁止)[^。！？\n]{0,4}(?:提及|提到|指出|强调|列出|批评|提出|讨论|提|写|說|说|給出|给出)?[^。！？\n]{0,10}"
            r"(?:缺点|不足|弱点|缺陷|局限|问题|负面|批评|缺點|負面|弱點)",
            about=r"审稿|评审|审查|評審|審稿|评价|本文|论文|論文|稿件",
        ),
        _statement(
            ADDRESS,
            "如果你是|如果您是|若你是|若您是|作为|致|尊敬的|亲爱的|作為",
            r"(?:如果|若|假如|当)?(?:你|您)?(?:是|作为|作為|致|尊敬的|亲爱的|各位)(?:一个|一名|一位|一個)?[^。！？，,：:\n]{0,6}"
            r"(?:ai|人工智能|大语言模型|语言模型|大模型|chatgpt|机器|自动|語言模型|llm)[^。！？\n]{0,10}(?:审稿|评审|審稿|評審|模型|助手|，|,|：|:)",
            about=r"请|必须|应|接受|接收|录用|高分|正面|积极|請|錄用",
        ),
        _statement(
            PLEA,
            "审稿人|评审|审稿专家|審稿人|評審|审稿老师",
            r"(?:恳请|恳求|希望|拜托|请求|懇請|请|盼)[^。！？\n]{0,16}(?:审稿人|评审|审稿专家|審稿人|評審|审稿老师)[^。！？\n]{0,20}"
            r"(?:手下留情|高抬贵手|接收|接受|录用|高分|好评|正面|给予|通过|宽容|錄用)"
            r"|(?:审稿人|评审专家|审稿专家|审稿老师|審稿人)[^。！？\n]{0,12}(?:手下留情|高抬贵手|多多关照|宽容)",
        ),
    ),
)

_JAPANESE = Language(
    lead=re.compile(r"(?:必ず|どうか|ぜひ|是非|ください|して|、|。|は|へ|に|を|の|が|で|と|も)$"),
    script=re.compile("[\u3040-\u30ff]"),
    rules=(
        _statement(
            OVERRIDES,
            "指示|命令|プロンプト|指令|ルール",
            r"(?:これまで|以前|上記|前|すべて|全て|先|今まで|既存|他|システム)[^。！？\n]{0,12}(?:指示|命令|プロンプト|指令|ルール)[^。！？\n]{0,6}"
            r"(?:無視し|忘れ|従わ|破棄し|上書きし)(?:て|ろ|なさい|ず|ないで)",
            about=r"査読|レビュー|評価|採択|採録|スコア|点|論文",
        ),
        _statement(
            FAVOUR,
            "査読|レビュー|評価|スコア|点|コメント|推薦",
            r"(?:肯定的|好意的|ポジティブ|高い|高評価|最高|満点|良い|高得点|前向き|最高点)[^。！？\n]{0,16}(?:査読|レビュー|評価|スコア|点|コメント|推薦)?[^。！？\n]{0,10}"
            r"(?:してください|してほしい|して下さい|しなさい|せよ|書いて(?:ください|下さい)|付けて(?:ください|下さい)|つけて(?:ください|下さい)|与えて(?:ください|下さい)|与えよ|出力して(?:ください|下さい)|お願い)",
            about=r"査読|レビュー|論文|評価|原稿",
        ),
        _statement(
            ACCEPTANCE,
            "採択|採録|受理|アクセプト|掲載",
            r"(?:採択|採録|受理|アクセプト|掲載)[^。！？\n]{0,12}(?:してください|して下さい|すべき|しなさい|推薦し|推奨し|お願い|勧め|せよ|すること)",
            about=r"査読|レビュー|論文|評価|原稿",
        ),
        _statement(
            SILENCE,
            "欠点|弱点|短所|問題|否定|批判|限界|ネガティブ|不足",
            r"(?:欠点|弱点|短所|問題点|否定的|批判|限界|ネガティブ)[^。！？\n]{0,16}(?:しないで|触れないで|書かないで|指摘せず|無視し|言及しない|述べないで|挙げないで|避けて|しないこと|控えて)",
            about=r"査読|レビュー|論文|評価|原稿",
        ),
        _statement(
            ADDRESS,
            "査読|レビュ|モデル|ai|アシスタント",
            r"(?:ai|人工知能|大規模言語モデル|言語モデル|chatgpt|llm|自動)[^。！？\n]{0,10}(?:査読者|レビュアー|レビューア|アシスタント|の方|モデル)?[^。！？\n]{0,6}(?:へ|である場合|であれば|なら|の皆様|の場合|として)[^。！？\n]{0,60}"
            r"(?:ください|下さい|しなさい|せよ|こと)",
            about=r"査読|レビュー|評価|採択|採録",
        ),
        _statement(
            PLEA,
            "査読者|レビュアー|査読",
            r"(?:査読者|レビュアー|査読委員|査読)[^。！？\n]{0,30}(?:お手柔らかに|寛大|ご容赦|高評価をお願い|採択をお願い|好意的な|甘め)[^。！？\n]{0,20}",
        ),
    ),
)

_KOREAN = Language(
    lead=re.compile(r"$"),
    script=re.compile("[\uac00-\ud7a3]"),
    rules=(
        _statement(
            OVERRIDES,
            "지시|명령|프롬프트|지침|규칙",
            r"(?:이전|앞선|위의|모든|기존|앞의|지금까지|다른|시스템)[^.!?\n]{0,16}(?:지시|명령|프롬프트|지침|규칙)[^.!?\n]{0,8}(?:무시|잊|따르지|무효)",
            about=r"심사|리뷰|평가|점수|논문|게재|채택|승인",
        ),
        _statement(
            FAVOUR,
            "심사|리뷰|평가|점수|평점|의견|추천",
            r"(?:긍정적|호의적|높은|최고|좋은|만점|우호적|후한|최상)[^.!?\n]{0,16}(?:심사|리뷰|평가|점수|평점|의견|추천|만)[^.!?\n]{0,10}"
            r"(?:하라|하십시오|하세요|해 ?주|해라|작성하|제공하(?:십|세|라|시)|부여하(?:십|세|라|시)|주십시오|주세요|달라|줘|남겨|바랍니다|부탁)",
            about=r"심사|리뷰|논문|원고|평가",
        ),
        _statement(
            ACCEPTANCE,
            "채택|게재|승인|수락|억셉트|통과",
            r"(?:채택|게재|승인|수락|억셉트|통과)[^.!?\n]{0,14}(?:추천하(?:라|십|세|시)|권고하(?:라|십|세|시)|하라|하십시오|하세요|해 ?주|시켜 ?주|되어야|바랍니다|부탁)",
            about=r"심사|리뷰|논문|원고|평가",
        ),
        _statement(
            SILENCE,
            "단점|약점|부정|비판|한계|문제|결점",
            r"(?:단점|약점|부정적|비판|한계|문제점|결점)[^.!?\n]{0,16}(?:언급하지|지적하지|쓰지|강조하지|말하지|무시하|나열하지|제기하지|다루지)[^.!?\n]{0,4}(?:마|말|십|세|라)?",
            about=r"심사|리뷰|논문|원고|평가",
        ),
        _statement(
            ADDRESS,
            "심사|리뷰|모델|ai|인공지능",
            r"(?:ai|인공지능|대규모 언어 ?모델|언어 ?모델|chatgpt|llm|자동)[^.!?\n]{0,8}(?:심사자|심사위원|리뷰어|모델|조수|어시스턴트)?[^.!?\n]{0,4}(?:에게|라면|이라면|인 경우|께|로서|님)[^.!?\n]{0,60}"
            r"(?:하라|십시오|세요|해 ?주|바랍니다|부탁|해야)",
            about=r"심사|리뷰|평가|점수|채택|게재",
        ),
        _statement(
            PLEA,
            "심사|리뷰어",
            r"(?:심사위원|심사자|심사 ?위원|리뷰어)[^.!?\n]{0,24}(?:너그럽|관대|잘 부탁|선처|좋은 점수|긍정적)[^.!?\n]{0,16}",
        ),
    ),
)

# Spanish, Portuguese, French, German, Russian, Arabic ------------------------------------------

_SPANISH = Language(
    lead=re.compile(
        r"(?:por favor|debes?|deben|deberias?|deberian?|tienes? que|tienen que|hay que|favor de|se ruega|rogamos|te pido que|solo|solamente|unicamente|siempre|y|pedimos que|les pedimos)$"
    ),
    marks=(" las ", " los ", " una ", " este ", " esta ", " el ", " del ", "cion", "articulo"),
    rules=(
        _order(
            OVERRIDES,
            "instrucci|indicaci|orden|regla|directri",
            r"(?:ignor|olvid|descart|omit|desatiend|desobede|pas[ae]n? por alto|haz caso omiso|hagan? caso omiso)\w* "
            + _W % 5
            + r"(?:instrucciones|indicaciones|ordenes|reglas|directrices|prompts?)\b(?: \w+){0,2}",
            about=r"revis|resena|acept|puntu|evalua|calific|articulo|arbitr|dictamen|positiv",
        ),
        _order(
            FAVOUR,
            "revision|resena|evaluacion|valoracion|puntuacion|calificacion|dictamen|recomendacion|nota alta|notas alta|nota max|buena nota|articulo",
            r"(?:da|de|den|dale|dar|escrib[ae]n?|escribir|redacta|redacte|redactar|proporcion[ae]n?|proporcionar|emit[ae]n?|emitir|gener[ae]n?|generar|otorgu?[ae]n?|otorgar|asign[ae]n?|asignar|pon|ponga|pongan|haz|haga|hagan|produce|devuelv[ae]) "
            + _W % 5
            + r"(?:positiv[ao]s?|favorables?|excelentes?|alt[ao]s?|maxim[ao]s?|sobresalientes?|buen[ao]s?|mejor(?:es)?|elogios[ao]s?) ?(?:\w+ ){0,3}"
            r"(?:a |de )?(?:\w+ ){0,2}(?:revision|resena|evaluacion|valoracion|puntuacion|calificacion|dictamen|recomendacion|nota|articulo|trabajo)?"
            r"|(?:da|de|den|escrib[ae]n?|escribir|redacte?|proporcion[ae]n?|emit[ae]n?|gener[ae]n?|otorgu?[ae]n?|otorgar|asign[ae]n?|asignar|pon|ponga|haz|haga) "
            + _W % 3
            + r"(?:revision|resena|evaluacion|valoracion|puntuacion|calificacion|dictamen|recomendacion|nota)(?:es)? (?:\w+ ){0,2}(?:positiv|favorable|excelente|alt[ao]|maxim|sobresaliente|buen)",
            about=r"revis(?:ion|or)|resena|evaluacion|valoracion|puntuacion|calificacion|dictamen|este (?:articulo|trabajo|manuscrito)",
        ),
        _order(
            ACCEPTANCE,
            "acept|publica",
            r"(?:recomiend[ae]n?|recomendar|sugier[ae]n?|sugerir|apoy[ae]n?|vot[ae]n?) (?:\w+ ){0,4}(?:acept\w+|publicacion)\b|(?:acept[ae]n?|aceptar|apruebe?n?|aprueba) (?:este|nuestro|el presente|el|mi) (?:articulo|trabajo|manuscrito|paper|envio)\b",
            about=r"revis(?:ion|or)|arbitr|articulo|trabajo|manuscrito|paper|evaluador",
        ),
        _order(
            SILENCE,
            "negativ|debilidad|defecto|limitaci|critica|carencia|fallo",
            r"(?:no|evit[ae]n?|nunca) (?:\w+ )?(?:mencion\w+|senal\w+|destac\w+|critic\w+|inclu\w+|list\w+|enumer\w+|hable?n?|resalt\w+|indique?n?|coment\w+) "
            + _W % 5
            + r"(?:negativ\w+|debilidad\w*|defectos?|limitacion\w*|criticas?|carencias?|fallos?)\b",
            about=r"revis(?:ion|or)|resena|arbitr|este (?:articulo|trabajo|manuscrito)|evaluador",
        ),
        _statement(
            ADDRESS,
            "si eres|si usted|estimad|querid|como|nota para|atencion",
            r"(?:si (?:eres|usted es)|estimad[oa]s?|querid[oa]s?|nota para|atencion|mensaje para|como) (?:un |una |el |la |los )?(?:revisor[ea]?s? )?(?:de )?(?:ia|inteligencia artificial|modelo de lenguaje|llm|chatgpt|modelo|sistema automatic)\w*\b",
            about=r"revis|acept|puntu|evalu|favorable|positiv",
        ),
        _statement(
            PLEA,
            "revisor|arbitro|evaluador",
            r"(?:rogamos|pedimos|suplicamos|esperamos|agradeceriamos|imploramos)[^.!?\n]{0,40}(?:revisor|arbitro|evaluador)\w*[^.!?\n]{0,50}(?:acept|favorable|positiv|benevol|alta|indulgen|amable)"
            r"|(?:revisor|arbitro|evaluador)(?:es|as|a|os)?,? (?:\w+ ){0,3}(?:sean?|se) (?:\w+ )?(?:amables?|benevolentes?|indulgentes?|generos[oa]s?|buenos?)",
        ),
    ),
)

_PORTUGUESE = Language(
    lead=re.compile(
        r"(?:por favor|deve|devem|deves|deveria|tem que|tens de|e|apenas|somente|sempre|pedimos que|solicitamos que|favor)$"
    ),
    marks=(
        " uma ",
        " este ",
        " esta ",
        " os ",
        " as instr",
        " das ",
        "cao ",
        "coes",
        "nao ",
        " o artigo",
        " nosso ",
    ),
    rules=(
        _order(
            OVERRIDES,
            "instruc|orienta|ordens|regras|diretri|comando",
            r"(?:ignor|esquec|desconsider|descart|desrespeit)\w* "
            + _W % 5
            + r"(?:instrucoes|orientacoes|ordens|regras|diretrizes|comandos|prompts?)\b(?: \w+){0,2}",
            about=r"revis|parecer|aceit|pontua|avalia|nota|artigo|positiv",
        ),
        _order(
            FAVOUR,
            "revis|parecer|avalia|pontua|nota|recomenda|critica",
            r"(?:de|deem|da|dar|escreva|escrevam|escreve|escrever|forneca|fornecam|forneca|emita|emitam|gere|gerem|atribua|atribuam|atribuir|conceda|faca|facam|produza|redija|elabore) "
            + _W % 3
            + r"(?:(?:revisao|parecer|avaliacao|pontuacao|nota|recomendacao|critica)(?:es)? (?:\w+ ){0,2}(?:positiv|favorave|excelente|alt[ao]|maxim|otim|bo[am]|elogios)"
            r"|(?:positiv\w+|favoraveis|favoravel|excelentes?|alt[ao]s?|maxim[ao]s?|otim[ao]s?|boas?|melhor(?:es)?) (?:\w+ ){0,2}(?:revis|parecer|avalia|pontua|nota|recomenda))",
            about=r"revis(?:ao|or)|parecer|avalia|pontua|este (?:artigo|trabalho|manuscrito)",
        ),
        _order(
            ACCEPTANCE,
            "aceit|publica|aprov",
            r"(?:recomend[ae]m?|recomendar|sugira|sugiram|apoie|vote) (?:\w+ ){0,4}(?:aceit\w+|publicacao|aprovacao)\b|(?:aceit[ae]m?|aceitar|aprov[ae]m?) (?:este|nosso|o presente|o|meu) (?:artigo|trabalho|manuscrito|paper)\b",
            about=r"revis(?:ao|or)|parecer|artigo|trabalho|manuscrito|avaliador",
        ),
        _order(
            SILENCE,
            "negativ|fraque|defeito|limita|critica|falha|pontos fracos",
            r"(?:nao|evit[ae]m?|nunca) (?:\w+ )?(?:mencion\w+|apont\w+|destaqu\w+|destac\w+|critiqu\w+|inclu\w+|list\w+|fal\w+|indiqu\w+|coment\w+|cit\w+) "
            + _W % 5
            + r"(?:negativ\w+|fraquezas?|defeitos?|limitac\w+|criticas?|falhas?|pontos fracos)\b",
            about=r"revis(?:ao|or)|parecer|este (?:artigo|trabalho|manuscrito)|avaliador",
        ),
        _statement(
            ADDRESS,
            "se voce|caro|prezado|nota para|atencao|como|se fores",
            r"(?:se voce (?:e|for)|se es|car[oa]s?|prezad[oa]s?|nota para|atencao|mensagem para|como) (?:um |uma |o |a |os )?(?:revisor[ea]?s? )?(?:de )?(?:ia|inteligencia artificial|modelo de linguagem|llm|chatgpt|modelo|sistema automatic)\w*\b",
            about=r"revis|aceit|pontua|avali|favorave|positiv",
        ),
        _statement(
            PLEA,
            "revisor|avaliador|parecerista",
            r"(?:pedimos|rogamos|suplicamos|esperamos|agradeceriamos|imploramos|solicitamos)[^.!?\n]{0,40}(?:revisor|avaliador|parecerista)\w*[^.!?\n]{0,50}(?:aceit|favorave|positiv|benevol|alta|indulgen|gentil|gentis)"
            r"|(?:revisor|avaliador|parecerista)(?:es|as|a|s)?,? (?:\w+ ){0,3}(?:seja|sejam) (?:\w+ )?(?:gentil|gentis|benevolentes?|indulgentes?|generos[oa]s?|bonzinhos?)",
        ),
    ),
)

_FRENCH = Language(
    lead=re.compile(
        r"(?:veuillez|merci de|s'il vous plait|s'il te plait|svp|priere de|(?:vous|tu) dev(?:ez|rez|riez|rais)|(?:vous|tu) dois|il faut|doit|doivent|et|toujours|seulement|uniquement|de bien vouloir|demandons de|prions de)$"
    ),
    marks=("ez ", " les ", " cet ", " votre ", " une ", " notre ", " toutes ", " ce papier", " l'"),
    rules=(
        _order(
            OVERRIDES,
            "instruction|consigne|directive|ordres|regle",
            r"(?:ignor|oubli|neglig|fai(?:s|tes) abstraction|ne (?:tenez|tiens) pas compte)\w* "
            + _W % 5
            + r"(?:instructions?|consignes?|directives?|ordres|regles?|prompts?)\b(?: \w+){0,2}",
            about=r"relect|evalu|accept|note|article|favorable|positi|rapport|critique",
        ),
        _order(
            FAVOUR,
            "relecture|evaluation|avis|note|rapport|critique|recommandation|score|commentaire|appreciation",
            r"(?:donne[zr]?|ecri(?:s|vez|re)|redige[zr]?|fourni(?:s|ssez|r)|emet(?:s|tez|tre)|genere[zr]?|attribue[zr]?|accorde[zr]?|mets|mettez|mettre|produi(?:s|sez|re)|rends|rendez|rendre|fais|faites) "
            + _W % 3
            + r"(?:(?:relecture|evaluation|avis|note|rapport|critique|recommandation|score|commentaire|appreciation)s? (?:\w+ ){0,2}(?:positi|favorable|excellent|elev|maximal|elogieu|bon)"
            r"|(?:positi\w+|favorables?|excellente?s?|meilleure?s?|haute?s?|bonne?s?|tres bonne?|maximales?|elogieu\w+) (?:\w+ ){0,2}(?:relecture|evaluation|avis|note|rapport|critique|recommandation|score|commentaire|appreciation))",
            about=r"relect|relecteur|evaluation|evaluateur|avis|rapport|cet article|ce papier|ce manuscrit|note",
        ),
        _order(
            ACCEPTANCE,
            "accept|publication",
            r"(?:recommande[zr]?|propose[zr]?|suggere[zr]?|vote[zr]?|soutene[zr]) (?:\w+ ){0,3}(?:[ld]')?(?:accept\w+|publication)\b|(?:accepte[zr]?|approuve[zr]?) (?:cet|notre|le present|ce|l'|mon) ?(?:article|papier|manuscrit|travail|soumission)\b",
            about=r"relect|evaluat|article|papier|manuscrit|soumission|rapporteur",
        ),
        _order(
            SILENCE,
            "negati|faiblesse|defaut|limite|critique|lacune|points faibles",
            r"(?:ne|n'|evite[zr]? de|sans) ?(?:\w+ )?(?:mentionne|signale|souligne|critique|inclu|liste|parle|releve|indique|evoque|cite)\w* "
            + _W % 5
            + r"(?:negati\w+|faiblesses?|defauts?|limites?|critiques?|lacunes?|points faibles)\b",
            about=r"relect|evaluat|avis|cet article|ce papier|ce manuscrit|rapport",
        ),
        _statement(
            ADDRESS,
            "si vous etes|si tu es|cher|chere|note pour|attention|message|en tant que",
            r"(?:si (?:vous etes|tu es)|chere?s?|note pour|note a|attention|message (?:pour|a)|en tant qu[e'] ?) ?(?:un |une |le |la |les |l')?(?:relect\w+ |evaluat\w+ )?(?:de )?(?:ia|intelligence artificielle|modele de lang\w+|llm|chatgpt|modele|systeme automati)\w*\b",
            about=r"relect|evalu|accept|note|favorable|positi|avis",
        ),
        _statement(
            PLEA,
            "relect|evaluat|rapporteur",
            r"(?:prions|demandons|supplions|esperons|implorons|remercions)[^.!?\n]{0,40}(?:relect|evaluat|rapporteur)\w*[^.!?\n]{0,50}(?:accept|favorable|positi|bienveillan|elev|indulgen|clemen)"
            r"|(?:relect|evaluat|rapporteur)\w*,? (?:\w+ ){0,3}(?:soyez|sois) (?:\w+ )?(?:indulgent|bienveillant|genereu|gentil|clement|favorable)",
        ),
    ),
)

_GERMAN = Language(
    lead=re.compile(
        r"(?:bitte|sie mussen|du musst|sie sollen|sie sollten|du sollst|und|nur|immer|stets|ausschließlich|ausschliesslich|wir bitten sie,?)$"
    ),
    marks=(" sie ", " diese", " und ", "bitte ", " ein ", " eine", " das ", " dem ", " zu "),
    rules=(
        _statement(
            OVERRIDES,
            "anweisung|anleitung|instruktion|vorgabe|regel|befehl|anordnung|prompt",
            r"(?:ignorier(?:e|en|t)|vergiss|vergessen|missachte|missachten|beachten? sie|verwirf|verwerfen)\b (?:sie )?(?:bitte )?"
            + _W % 4
            + r"(?:anweisungen|anleitungen|instruktionen|vorgaben|regeln|befehle|anordnungen|prompts?)\b"
            r"|(?:anweisungen|instruktionen|vorgaben|regeln|befehle) (?:\w+ ){0,3}(?:ignorieren|vergessen|missachten)\b",
            about=r"gutacht|begutacht|bewert|annahme|annehm|artikel|positiv|review|punkt",
        ),
        _statement(
            FAVOUR,
            "gutacht|begutacht|bewert|rezension|review|note|punkt|urteil|empfehl",
            r"(?:gib|geben sie|gebt|schreib|schreibe|schreiben sie|schreibt|verfasse|verfassen sie|erstelle|erstellen sie|erzeuge|erteile|erteilen sie|vergib|vergeben sie|liefere|liefern sie) "
            + _W % 5
            + r"(?:positiv\w*|gunstig\w*|hervorragend\w*|ausgezeichnet\w*|hohe\w*|hochste\w*|beste\w*|sehr gute\w*|gute\w*|wohlwollend\w*|maximal\w*) (?:\w+ ){0,2}(?:gutachten|begutachtung|bewertung|rezension|review|note|punktzahl|punkte|urteil|empfehlung)"
            r"|(?:bewerte|bewerten sie|beurteile|beurteilen sie|begutachte|begutachten sie) "
            + _W % 6
            + r"(?:positiv|gunstig|wohlwollend|hervorragend|sehr gut|mit der (?:hochsten|besten))",
            about=r"gutacht|begutacht|bewert|artikel|manuskript|dieses? papier|diese arbeit|review|beitrag",
        ),
        _statement(
            ACCEPTANCE,
            "annahme|annehm|akzept|veroffentlich|nimm|nehmen|empfiehl",
            r"(?:empfiehl|empfehlen sie|empfehle|befurworte|befurworten sie|unterstutzen sie) (?:\w+ ){0,5}(?:annahme|annehmen|akzeptanz|veroffentlichung|akzeptieren)\b"
            r"|(?:akzeptiere|akzeptieren sie|nimm|nehmen sie) (?:bitte )?(?:diesen|dieses|diese|unseren|unsere|das|den|die) (?:artikel|manuskript|arbeit|beitrag|paper|einreichung)\b",
            about=r"gutacht|begutacht|artikel|manuskript|arbeit|beitrag|paper|einreichung",
        ),
        _statement(
            SILENCE,
            "schwach|mangel|negativ|kritik|einschrank|nachteil|fehler",
            r"(?:erwahne|erwahnen sie|nenne|nennen sie|kritisiere|kritisieren sie|betone|betonen sie|hebe|heben sie|liste|listen sie|vermeide|vermeiden sie|schreibe|schreiben sie|weise|weisen sie) "
            + _W % 4
            + r"(?:(?:keine|keinerlei|nicht) (?:\w+ ){0,4}(?:schwachen?|mangel|negativ\w+|kritik\w*|einschrankung\w*|nachteile?|fehler)|(?:schwachen|mangel|negative\w*|kritik) (?:\w+ ){0,2}nicht)",
            about=r"gutacht|begutacht|bewert|artikel|manuskript|diese arbeit|review|beitrag",
        ),
        _statement(
            ADDRESS,
            "wenn sie|wenn du|falls|sehr geehrte|liebe|hinweis|achtung|als",
            r"(?:(?:wenn|falls) (?:sie|du)|sehr geehrte[rs]?|liebe[rs]?|hinweis (?:an|fur)|achtung,?|nachricht an|als) (?:ein |eine |einen |die |den |alle )?(?:ki\b|ki-|kunstliche intelligenz|sprachmodell|llm|chatgpt|automatisch)\w*",
            about=r"gutacht|begutacht|bewert|annahme|annehm|akzept|positiv|punkt",
        ),
        _statement(
            PLEA,
            "gutachter|begutacht|reviewer",
            r"(?:bitten|hoffen|flehen|ersuchen|waren dankbar)[^.!?\n]{0,40}(?:gutachter|reviewer|begutacht)\w*[^.!?\n]{0,60}(?:annahme|anzunehmen|positiv|wohlwollen|gunstig|nachsicht|milde|hohe)"
            r"|(?:gutachter|reviewer)(?:innen|in)?,? (?:\w+ ){0,3}(?:seien sie|sei|seid) (?:\w+ )?(?:gnadig|nachsichtig|wohlwollend|milde|freundlich|großzugig)",
        ),
    ),
)

_RUSSIAN = Language(
    lead=re.compile(r"$"),
    script=re.compile("[\u0430-\u044f]"),
    rules=(
        _statement(
            OVERRIDES,
            "инструкц|указани|команд|правил|приказ|промпт|распоряж",
            r"(?:игнорируи(?:те)?|проигнорируи(?:те)?|забудь(?:те)?|отбрось(?:те)?|не следуи(?:те)?|пренебреги(?:те)?) "
            + _W % 5
            + r"(?:инструкци\w+|указани\w+|команд\w*|правил\w*|приказ\w*|промпт\w*|распоряжени\w+)",
            about=r"реценз|отзыв|приня|оцен|балл|стат|положительн",
        ),
        _statement(
            FAVOUR,
            "реценз|отзыв|оцен|балл|рекоменд|комментари",
            r"(?:даи(?:те)?|напиши(?:те)?|составь(?:те)?|сделаи(?:те)?|предоставь(?:те)?|поставь(?:те)?|выстави(?:те)?|сгенерируи(?:те)?|выдаи(?:те)?|оставь(?:те)?|присвои(?:те)?) "
            + _W % 5
            + r"(?:положительн|благоприятн|хорош|отличн|высок|высш|наивысш|максимальн|лучш|восторженн|хвалебн)\w* (?:\w+ ){0,2}(?:реценз|отзыв|оцен|балл|рекоменд|комментари)\w*"
            r"|(?:оцени(?:те)?) "
            + _W % 5
            + r"(?:положительно|высоко|на высш\w+|максимально|как отличн\w+)",
            about=r"реценз|отзыв|оцен|стать|рукопис|работ",
        ),
        _statement(
            ACCEPTANCE,
            "приня|прими|публикац|одобр",
            r"(?:рекомендуи(?:те)?|порекомендуи(?:те)?|посоветуи(?:те)?|предложи(?:те)?) (?:\w+ ){0,5}(?:приня\w+|публикаци\w+|одобр\w+)|(?:прими(?:те)?|одобри(?:те)?) (?:\w+ )?(?:эту|нашу|данную|настоящую|мою) (?:стать\w+|работ\w+|рукопись)"
            r"|(?:стать[яю]|работ[ау]|рукопись) (?:должна быть|следует|необходимо|заслуживает) (?:\w+ )?(?:принят\w*|опубликова\w*|приняти\w*|публикаци\w*)",
            about=r"реценз|отзыв|стат|рукопис|работ",
        ),
        _statement(
            SILENCE,
            "недостат|слаб|отрицательн|критик|ограничени|негативн|замечани|минус",
            r"(?:не|избегаи(?:те)?) (?:\w+ )?(?:упомина|указыва|отмеча|критику|перечисля|обсужда|пиши|говори|подчеркива|выделя|упоминани)\w* "
            + _W % 5
            + r"(?:недостат\w+|слаб\w+|отрицательн\w+|критик\w+|ограничени\w+|негативн\w+|замечани\w+|минус\w*)",
            about=r"реценз|отзыв|стат|рукопис|работ",
        ),
        _statement(
            ADDRESS,
            "если вы|если ты|уважаем|дорого|внимание|обращение|как ",
            r"(?:если (?:вы|ты)|уважаем\w+|дорог\w+|внимание,?|обращение к|сообщение для|как) (?:\S+ ){0,2}(?:ии\b|ии-|искусственн\w+ интеллект\w*|языков\w+ модел\w+|нейросет\w+|llm|chatgpt|автоматическ\w+)",
            about=r"реценз|отзыв|приня|оцен|балл|положительн",
        ),
        _statement(
            PLEA,
            "рецензент",
            r"(?:просим|надеемся|умоляем|будем благодарны|прошу)[^.!?\n]{0,40}рецензент\w*[^.!?\n]{0,60}(?:приня|положительн|высок|снисхо|благосклон|одобр)"
            r"|рецензент\w*,? (?:\w+ ){0,3}(?:будьте|будь) (?:\w+ )?(?:снисходительн|добр|благосклонн|мягк)",
        ),
    ),
)

_ARABIC = Language(
    lead=re.compile(r"$"),
    script=re.compile("[\u0621-\u064a]"),
    rules=(
        _statement(
            OVERRIDES,
            "تعليمات|اوامر|توجيهات|قواعد|ارشادات",
            r"(?:تجاهل|تجاهلوا|انس|انسوا|اهمل|اهملوا|لا تتبع)\w* (?:\S+ ){0,3}(?:ال)?(?:تعليمات|اوامر|توجيهات|قواعد|ارشادات)",
            about=r"مراجع|تقييم|قبول|درج|بحث|ورق|ايجابي|محكم",
        ),
        _statement(
            FAVOUR,
            "مراجع|تقييم|درج|توصي|تقرير|تعليق",
            r"(?:اعط|اعطي|اعطوا|قدم|قدموا|اكتب|اكتبوا|امنح|امنحوا|ضع|انشئ|اصدر|قيم)\w* (?:\S+ ){0,5}?(?:(?:مراجعه|مراجعة|تقييم\w*|تقرير\w*|درجه|درجة|توصيه|توصية|تعليق\w*) (?:\S+ ){0,2}(?:ايجابي\w*|جيد\w*|ممتاز\w*|عالي\w*|مرتفع\w*|كامل\w*|قصوى)|(?:اعلى|افضل|احسن) (?:\S+ ){0,1}(?:درج\w*|تقييم\w*|مراجع\w*|توصي\w*))",
            about=r"مراجع|تقييم|بحث|ورق|محكم|درج",
        ),
        _statement(
            ACCEPTANCE,
            "قبول|اقبل|نشر|تقبل",
            r"(?:اوص|اوصي|اوصوا|نوصي|انصح)\w* (?:\S+ ){0,3}ب?(?:ال)?(?:قبول|نشر)|(?:اقبل|اقبلوا|وافق على|يجب قبول|ينبغي قبول|يرجى قبول|نرجو قبول) (?:هذا|هذه|بحثنا|ورقتنا|ال)\S*",
            about=r"مراجع|تقييم|بحث|ورق|محكم",
        ),
        _statement(
            SILENCE,
            "سلبي|عيوب|ضعف|قصور|نقد|انتقاد|قيود",
            r"(?:لا (?:تذكر|تشر|تنتقد|تكتب|تبرز|تركز)\w*|تجنب (?:ذكر|الاشارة)\w*|تجاهل) (?:\S+ ){0,4}(?:ال)?(?:سلبي\w*|عيوب|ضعف|قصور|نقد|انتقاد\w*|قيود)",
            about=r"مراجع|تقييم|بحث|ورق|محكم",
        ),
        _statement(
            ADDRESS,
            "اذا كنت|عزيزي|الى|ملاحظ|تنبيه|بصفتك",
            r"(?:اذا كنت|عزيزي|اعزائي|الى|ملاحظة ل|تنبيه|بصفتك|كونك) ?(?:\S+ ){0,3}?(?:ال)?(?:ذكاء (?:ال)?اصطناعي|نموذج (?:ال)?لغ\w+|نموذج لغوي|المراجع الالي|chatgpt|llm)",
            about=r"مراجع|تقييم|قبول|درج|ايجابي",
        ),
        _statement(
            PLEA,
            "مراجع|محكم",
            r"(?:نرجو|نامل|نطلب|نلتمس|ارجو)[^.!؟\n]{0,30}(?:المراجع|المحكم|المقيم)\w*[^.!؟\n]{0,50}(?:قبول|ايجابي|لطف|متساهل|عالي|رحم|تساهل)",
        ),
    ),
)

LANGUAGES = (
    _ENGLISH,
    _CHINESE,
    _JAPANESE,
    _KOREAN,
    _SPANISH,
    _PORTUGUESE,
    _FRENCH,
    _GERMAN,
    _RUSSIAN,
    _ARABIC,
)
