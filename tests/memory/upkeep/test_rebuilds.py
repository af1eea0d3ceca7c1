from __future__ import annotations

from pathlib import Path

from memory.upkeep.rebuilds import FILE, Rebuild, Rebuilds


def rebuild(collection: str = "a", **facts: object) -> Rebuild:
    return Rebuild(collection=collection, reason="a test", **facts)  # type: ignore[arg-type]


def test_what_is_noted_is_there_after_a_restart_with_how_far_it_is(tmp_path: Path) -> None:
    rebuilds = Rebuilds(tmp_path)
    first = rebuild(total=10)
    rebuilds.begin([first, rebuild("b")])
    first.cursor, first.done = "m5", 5
    rebuilds.keep(first)
    again = Rebuilds(tmp_path)
    assert list(again) == [rebuild(total=10, cursor="m5", done=5), rebuild("b")]
    assert first.remaining == 5


def test_what_is_ended_is_gone_and_with_the_last_the_file(tmp_path: Path) -> None:
    rebuilds = Rebuilds(tmp_path)
    rebuilds.begin([rebuild(), rebuild("b")])
    rebuilds.end({"a"})
    assert [each.collection for each in Rebuilds(tmp_path)] == ["b"]
    rebuilds.end({"b", "c"})
    assert list(tmp_path.iterdir()) == []


def test_a_rebuild_that_was_replaced_is_not_written_over_its_successor(tmp_path: Path) -> None:
    rebuilds = Rebuilds(tmp_path)
    old = rebuild()
    rebuilds.begin([old])
    rebuilds.begin([rebuild()])
    old.cursor = "m5"
    rebuilds.keep(old)
    assert [each.cursor for each in Rebuilds(tmp_path)] == [""]


def test_a_file_that_cannot_be_read_says_so_until_it_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[{")
    rebuilds = Rebuilds(tmp_path)
    assert not rebuilds.readable
    assert len(rebuilds) == 0
    rebuilds.begin([rebuild()])
    assert rebuilds.readable
    assert len(Rebuilds(tmp_path)) == 1


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    Rebuilds(tmp_path).begin([rebuild()])
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
