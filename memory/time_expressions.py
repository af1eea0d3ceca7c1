"""Times that a question names, resolved against when it is asked."""

from __future__ import annotations

import re
import unicodedata
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_MONTHS = (
    "january januar enero janvier janeiro styczen stycznia styczniu",
    "february februar febrero fevrier fevereiro luty lutego lutym",
    "march marz marzo mars marco marzec marca marcu",
    "april abril avril kwiecien kwietnia kwietniu",
    "mai mayo maio maj maja maju",
    "june juni junio juin junho czerwiec czerwca czerwcu",
    "july juli julio juillet julho lipiec lipca lipcu",
    "august agosto aout sierpien sierpnia sierpniu",
    "september septiembre septembre setembro wrzesien wrzesnia wrzesniu",
    "october oktober octubre octobre outubro pazdziernik pazdziernika pazdzierniku",
    "november noviembre novembre novembro listopad listopada listopadzie",
    "december dezember diciembre decembre dezembro grudzien grudnia grudniu",
)
_MONTH_NUMBERS = {word: n for n, words in enumerate(_MONTHS, 1) for word in words.split()}
_SEASONS = {
    3: "spring fruhling fruhjahr primavera printemps wiosna wiosne",
    6: "summer sommer verano ete verao lato latem",
    9: "autumn herbst otono automne outono jesien jesienia",
    12: "winter invierno hiver inverno zima zime",
}
_SEASON_STARTS = {word: month for month, words in _SEASONS.items() for word in words.split()}
_COUNTS = {
    1: "a an one ein eine einem einer un una une um jeden",
    2: "two zwei dos deux dois duas dwa dwie",
    3: "three drei tres trois trzy",
    4: "four vier cuatro quatre quatro cztery",
    5: "five funf cinco cinq piec",
    6: "six sechs seis szesc",
}
_NUMBERS = {word: count for count, words in _COUNTS.items() for word in words.split()}
_UNITS = {
    1: "day days tag tagen dia dias jour jours dzien dni",
    7: "week weeks woche wochen semana semanas semaine semaines tydzien tygodnie tygodni",
    30: "month months monat monaten mes meses mois miesiac miesiace",
    365: "year years jahr jahren ano anos an ans rok lata",
}
_UNIT_DAYS = {word: days for days, words in _UNITS.items() for word in words.split()}
_PAST_DAYS = {
    **dict.fromkeys(("today", "heute", "hoy", "aujourd'hui", "hoje", "dzisiaj", "dzis"), 0),
    **dict.fromkeys(("yesterday", "gestern", "ayer", "hier", "ontem", "wczoraj"), 1),
}
_HAN_DAYS = {"\u4eca\u65e5": 0, "\u4eca\u5929": 0, "\u6628\u65e5": 1, "\u6628\u5929": 1}
_LAST = "last letzte[nrms]? vergangene[nrms]? pasad[oa] dernier derniere passad[oa] zeszl\\w+"
_LAST_WORD = re.compile("|".join((*_LAST.split(), "ubiegl\\w+", "ultim[oa]")))

_WORD = re.compile(r"[a-z']+|\d+")
_COUNT = re.compile(r"\d{1,2}")
_AGO = re.compile(r"(?:\bago\b|\bvor\b|\bhace\b|\bil y a\b|\bha\b|\btemu\b)")
_YEARS = r"(?:19|20)\d\d"
_MONTH = r"0?[1-9]|1[0-2]"
_DATE = re.compile(rf"(?<!\d)({_YEARS})[-/.]({_MONTH})(?:[-/.](\d{{1,2}}))?(?!\d)")
_DAY_FIRST = re.compile(rf"(?<!\d)(\d{{1,2}})[./]({_MONTH})[./]({_YEARS})(?!\d)")
_HAN_DATE = re.compile(
    rf"(?:({_YEARS})\u5e74)?(?<!\d)({_MONTH})\u6708(?:(\d{{1,2}})\u65e5)?", re.ASCII
)
_YEAR = re.compile(rf"(?<!\d)({_YEARS})(?!\d)")


class Span(NamedTuple):
    """From ``start`` up to ``end``, in seconds since the epoch."""

    start: float
    end: float


def times_named(text: str, asked_at: float) -> list[Span]:
    """The times that *text* speaks of, said at *asked_at* (seconds since the epoch, UTC).

    English, German, Spanish, French, Portuguese, Polish, numeric dates, and those of Japanese and
    Chinese. A month or a season without a year is the latest that had begun. Nothing is found
    where nothing is named.
    """
    try:
        now = datetime.fromtimestamp(asked_at, UTC)
    except (OverflowError, OSError, ValueError):
        return []
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    plain = plain.casefold().replace("\u0142", "l")
    spans = [*_dates(plain), *_han(text, now), *_months(plain, now), *_relative(plain, now)]
    if not spans:
        spans = [_span(int(year), 1, 12) for year in _YEAR.findall(plain)]
    return spans


def _dates(text: str) -> Iterator[Span]:
    found = [(y, m, d) for y, m, d in _DATE.findall(text)]
    found += [(y, m, d) for d, m, y in _DAY_FIRST.findall(text)]
    for year, month, day in found:
        yield _day(int(year), int(month), int(day)) if day else _span(int(year), int(month))


def _han(text: str, now: datetime) -> Iterator[Span]:
    for year, month, day in _HAN_DATE.findall(unicodedata.normalize("NFKC", text)):
        in_year = int(year) if year else _latest_year(int(month), now)
        yield _day(in_year, int(month), int(day)) if day else _span(in_year, int(month))
    for word, days in _HAN_DAYS.items():
        if word in text:
            yield _around(now - timedelta(days=days), 0.5)


def _months(text: str, now: datetime) -> Iterator[Span]:
    words = _WORD.findall(text)
    for place, word in enumerate(words):
        after = words[place + 1 : place + 3]
        year = next((int(each) for each in after if _YEAR.fullmatch(each)), None)
        month = _MONTH_NUMBERS.get(word)
        if word == "may" and place and words[place - 1] in ("in", "last", "of", "since", "until"):
            month = 5
        if month is not None:
            yield _span(year or _latest_year(month, now), month)
        season = _SEASON_STARTS.get(word)
        if season is not None:
            yield _span(year or _latest_year(season, now), season, 3)


def _relative(text: str, now: datetime) -> Iterator[Span]:
    words = _WORD.findall(text)
    ago = _AGO.search(text) is not None
    for place, word in enumerate(words):
        if word in _PAST_DAYS:
            yield _around(now - timedelta(days=_PAST_DAYS[word]), 0.5)
        days = _UNIT_DAYS.get(word)
        if days is None:
            continue
        before = words[place - 1] if place else ""
        count = int(before) if _COUNT.fullmatch(before) else _NUMBERS.get(before)
        beside = (before, *words[place + 1 : place + 2])
        if ago and count is not None:
            yield _around(now - timedelta(days=days * count), max(0.5, days * 0.5))
        elif any(_LAST_WORD.fullmatch(each) for each in beside):
            yield _around(now - timedelta(days=days), max(0.5, days * 0.6))


def _latest_year(month: int, now: datetime) -> int:
    return now.year if month <= now.month else now.year - 1


def _span(year: int, month: int, months: int = 1) -> Span:
    last = month + months - 1
    end_year, end_month = year + (last - 1) // 12, (last - 1) % 12 + 1
    end = datetime(end_year, end_month, monthrange(end_year, end_month)[1], tzinfo=UTC)
    start = datetime(year, month, 1, tzinfo=UTC)
    return Span(start.timestamp(), (end + timedelta(days=1)).timestamp())


def _day(year: int, month: int, day: int) -> Span:
    day = min(max(day, 1), monthrange(year, month)[1])
    start = datetime(year, month, day, tzinfo=UTC)
    return Span(start.timestamp(), (start + timedelta(days=1)).timestamp())


def _around(middle: datetime, days: float) -> Span:
    return Span(
        (middle - timedelta(days=days)).timestamp(), (middle + timedelta(days=days)).timestamp()
    )
