"""Texts of the kinds that people send: what every back end must place alike."""

from __future__ import annotations

SENTENCES = (
    "ok",
    "hi",
    "no",
    "yes",
    "OK.",
    "nope",
    "Thanks!",
    "lol",
    "?",
    "👍",
    "see you tomorrow at 5pm",
    "My dog is called Bruno.",
    "What is the name of my dog?",
    "I moved to Lisbon in March and work as a nurse now.",
    "Can you remind me what I said about my sister's wedding last summer?",
    "Ich wohne seit drei Jahren in Hamburg und spiele gern Schach.",
    "J'ai mangé une tarte aux pommes chez ma grand-mère.",
    "Mañana tengo una cita con el dentista a las nueve.",
    "我喜欢在周末和朋友一起去爬山。",
    "Завтра я лечу в Москву на конференцию.",
    "こんにちは、お元気でいらっしゃいますか。",
    "مرحبا كيف حالك",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT name, email FROM users WHERE created_at > '2024-01-01';",
    "Traceback (most recent call last): KeyError: 'user_id'",
    "https://example.org/a/b?c=d&e=f",
    "1234567890",
    (
        "Yesterday I went to the market and bought three kilos of tomatoes, basil and a loaf of "
        "bread; then I cooked pasta for eight people, and everybody liked it."
    ),
    "We talked about the budget for next year. Marketing wants twenty percent more, engineering "
    "asks for two new people, and the board has said that costs must not grow. " * 3,
    "Weather and politics and sports, one after the other. " * 60,
)
