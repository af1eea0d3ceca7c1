"""Small talk in scripts without spaces."""

import pytest

from memory.small_talk import folded
from memory.small_talk_unspaced import SCRIPT, UNSPACED, UNSPACED_ASKING, UNSPACED_SELF


@pytest.mark.parametrize(
    "line",
    [
        "\u304a\u306f\u3088\u3046\u3054\u3056\u3044\u307e\u3059",
        "\u975e\u5e38\u611f\u8c22",
        "\uac10\uc0ac\ud569\ub2c8\ub2e4",
    ],
)
def test_nothing_is_left_of_small_talk(line: str) -> None:
    assert SCRIPT.search(line)
    assert UNSPACED.sub("", folded(line)) == ""


@pytest.mark.parametrize(
    "line", ["\u6211\u5728\u6ce2\u5c14\u56fe\u4e70\u4e86\u8239", "\u8239\u306e\u540d\u524d"]
)
def test_what_is_said_of_the_world_is_left(line: str) -> None:
    assert UNSPACED.sub("", folded(line)) != ""


def test_a_question_about_oneself_is_seen_as_one() -> None:
    line = "\u6211\u53eb\u4ec0\u4e48\u540d\u5b57"
    assert UNSPACED_ASKING.search(line)
    assert UNSPACED_SELF.search(line)


def test_a_line_in_letters_is_of_another_script() -> None:
    assert SCRIPT.search("Gr\u00fc\u00dfe, \u043f\u0440\u0438\u0432\u0435\u0442") is None
