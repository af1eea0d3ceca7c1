"""Requests for all there is on something, rather than for the best few memories."""

from __future__ import annotations

import re
from typing import Final

_PATTERNS: Final = {
    "everything": (
        r"\beverything\b.*\b(about|on|regarding|of|i|we|my)\b",
        r"\ball (of )?(my|our|the things|that i|i (have|ever|told|said))\b",
        r"\b(list|name|collect|summari[sz]e|recap|show|give)\b.{0,20}\b(all|every)\b",
        r"\bhistory of (my|our)\b|\bover (the|all these) (weeks|months|years)\b",
        r"\balles (uber|was|zu|over)\b|\balle (meine|unsere)\b",
        r"\btodo (sobre|lo que)\b|\btod[oa]s (mis|nuestr[oa]s|l[oa]s)\b",
        r"\btout (sur|ce que)\b|\bto(us|utes) (mes|nos|les)\b",
        r"\bwszystk(o o|ie moje|o co)\b|\btutto (su|quello)\b|\btudo (sobre|o que)\b",
        "\u5168\u90e8|\u6240\u6709|\u4e00\u5207",  # Chinese
        "\u5168\u3066|\u3059\u3079\u3066",  # Japanese
        "\uc804\ubd80|\ubaa8\ub4e0|\ubaa8\ub450",  # Korean
    ),
    "each_time": (
        r"\b(all|each of) the times\b|\b(every|each) time\b|\bhow many times\b",
        r"\bjedes mal\b|\bwie oft\b|\bcada vez\b|\bcuantas veces\b|\btodas las veces\b",
        r"\bchaque fois\b|\bcombien de fois\b|\bile razy\b|\bza kazdym razem\b",
        r"\bogni volta\b|\bquante volte\b|\bquantas vezes\b|\bhoe vaak\b",
        "\u4f55\u56de|\u4f55\u5ea6|\u591a\u5c11\u6b21|\u51e0\u6b21",  # Japanese, Chinese
    ),
    "first_time": (
        r"\bwhen did (i|we) first\b|\b(very )?first time\b|\bzum ersten mal\b",
        r"\bpor primera vez\b|\bpremiere fois\b|\bpierwszy raz\b|\bprima volta\b",
        r"\bprimeira vez\b|\beerste keer\b",
        "\u521d\u3081\u3066|\u7b2c\u4e00\u6b21|\ucc98\uc74c",  # Japanese, Chinese, Korean
    ),
    "about_the_user": (
        r"\b(know|remember) about (me|us)\b|\bweisst du (alles )?uber mich\b",
        r"\bsabes (de|sobre) mi\b|\bsais (tu )?(de|sur) moi\b|\bwiesz o mnie\b",
    ),
}

DEEP: Final = tuple((reason, re.compile("|".join(each))) for reason, each in _PATTERNS.items())
"""Reasons and what they look like in a text as ``memory.small_talk.plain`` writes it."""
