"""What a question asks for, as far as rules can tell."""

from __future__ import annotations

import re
from typing import NamedTuple

from memory.concepts import concepts
from memory.planner import plan_for
from memory.time_expressions import Span, times_named
from memory.token_marks import TokenMarks
from memory.tokens import tokens

_TOLD = re.compile(
    r"\byou (?:\w+ )?(?:suggest|told|tell|advis|recommend|propos|say|said|warn|explain|estimat"
    r"|mention|wrote|write|gave|give|calculat|favour|name|offer|show|think|come up)"
    r"|your (?:advice|suggestion|tip|recommendation|idea|proposal|estimate|verdict)"
    r"|\b(?:did|had|were|would|have) you\b|\byou yourself"
    r"|\b(?:hast|hattest|w\u00fcrdest) du\b|\bdu (?:mir|hast)\b"
    r"|\bdein(?:e|en)? (?:rat|tipp|vorschlag|empfehlung)"
    r"|\b\w{3,}[ai]ste\b|tu (?:consejo|recomendaci\u00f3n|sugerencia)|\bavais-tu"
    r"|\btu m'(?:as|avais)|\bas-tu\b|ton conseil|voc\u00ea (?:sugeriu|disse|recomendou)"
    r"|(?:poradzi\u0142|zaproponowa\u0142|m\u00f3wi\u0142|poleci\u0142|doradzi\u0142|napisa\u0142"
    r"|radzi\u0142|sugerowa\u0142)[ea]\u015b"
    "|\u52e7\u3081|\u63d0\u6848|\u8a00\u3063\u3066\u304f\u308c|\u6559\u3048\u3066\u304f\u308c"
    "|\u30a2\u30c9\u30d0\u30a4\u30b9|\u52a9\u8a00|\u304a\u3059\u3059\u3081"
    "|\u4f60(?:\u5efa\u8bae|\u8bf4|\u63a8\u8350)",
    re.IGNORECASE,
)
"""The assistant is asked for what it said itself."""

_NUMBER = re.compile(
    r"how (?:much|many|long|often|far|old|big|large|high|late|early)"
    r"|what (?:time|date|day|year|price|size|number|score|amount|sum|hour)"
    r"|which (?:day|date|hour|year)|\bwhen\b|\b(?:price|cost|total|rent|limit|deadline|frequency)"
    r"|\bcu[\u00e1a]n(?:t|do)|qu[\u00e9e] (?:hora|d[\u00edi]a|fecha|precio)"
    r"|wie ?viel|\bwann\b|wie (?:lange|oft|hoch|sp\u00e4t|alt|gro\u00df)|uhrzeit|\bpreis\b"
    r"|\bile\b|\bkiedy\b|kt\u00f3r(?:ej|ym) (?:godzin|dni)|combien|\bquand\b|quelle (?:heure|date)"
    r"|\bquanto|\bquando\b|que horas"
    "|\u4f55[\u70b9\u6642\u65e5\u6708\u5e74\u56de\u5186\u500b\u4eba\u679a\u5206\u968e\u6b73]"
    "|\u3044\u304f\u3089|\u3044\u3064|\u3069\u308c\u304f\u3089\u3044|\u8cbb\u7528"
    "|\u591a\u5c11|\u51e0|\u4ec0\u4e48\u65f6\u5019",
    re.IGNORECASE,
)
"""The answer is a number or a date."""

_CODE = re.compile(
    r"formul|f\u00f3rmula|formel|wz\u00f3r|komend|polecen|\bcommand|\bexpression\b|\bfunction"
    r"|\bfunkcj|\bfunci\u00f3n|\bfonction|\bscript|\bskrypt|snippet|\bcode\b|\bkod|c\u00f3digo"
    r"|befehl|\bzelle\b|\bcelda|\bcell\b|\bquery\b|zapytan|\bregex|\bcolumn\b|spreadsheet"
    r"|\btabell|\bexcel\b|\bsql\b|\bprogram"
    "|\u5f0f|\u30bb\u30eb|\u30b3\u30fc\u30c9|\u30b3\u30de\u30f3\u30c9|\u95a2\u6570|\u4ee3\u7801",
    re.IGNORECASE,
)
"""The answer is code, a formula or a command."""

_NOW = re.compile(
    r"\bnow\b|\bcurrent|\blatest\b|these days|at the moment|\btoday\b|nowadays|\bstill\b|\bfinally"
    r"|in the end|eventually|\bahora\b|\bactual|al final|finalmente"
    r"|\bjetzt\b|\baktuell|momentan|derzeit|inzwischen|zurzeit|schlie\u00dflich|letztlich"
    r"|\bteraz\b|obecnie|aktualn|ostatecz|w ko\u0144cu|maintenant|finalement|\bagora\b|\batual"
    "|\u4eca|\u73fe\u5728|\u6700\u65b0|\u7d50\u5c40|\u6700\u7d42|\u73b0\u5728|\u76ee\u524d",
    re.IGNORECASE,
)
"""What changed is asked for as it is now."""


class Question(NamedTuple):
    """A question, read. ``marks``: its token marks, where it was embedded. ``times``: those that
    it names. The flags say what its answer is: the assistant's own words, a number, code, the
    newest state of something, or all there is.
    """

    words: list[str]
    concepts: list[str]
    marks: TokenMarks | None
    times: list[Span]
    asks_reply: bool
    asks_number: bool
    asks_code: bool
    asks_now: bool
    asks_all: bool


def read_question(text: str, *, marks: TokenMarks | None, asked_at: float) -> Question:
    """What *text*, asked at *asked_at* (seconds since the epoch, UTC), asks for."""
    return Question(
        words=tokens(text),
        concepts=list(dict.fromkeys(concepts(text))),
        marks=marks,
        times=times_named(text, asked_at),
        asks_reply=_TOLD.search(text) is not None,
        asks_number=_NUMBER.search(text) is not None,
        asks_code=_CODE.search(text) is not None,
        asks_now=_NOW.search(text) is not None,
        asks_all=plan_for(text).kind == "deep",
    )
