"""What Redis says is cut into its items, however the bytes come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.wire_redis import Item, ItemCutter

ITEMS = (
    Item(b"+OK\r\n", b""),
    Item(b":12\r\n", b""),
    Item(b"$-1\r\n", b""),
    Item(b"$5\r\na\r\nbc\r\n", b""),
    Item(b"*0\r\n", b""),
    Item(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n", b"message"),
    Item(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", b"subscribe"),
    Item(b"*2\r\n*1\r\n:1\r\n%1\r\n+k\r\n$1\r\nv\r\n", b":1"),
)


@given(st.lists(st.sampled_from(ITEMS), max_size=6), st.lists(st.integers(0, 300), max_size=6))
def test_items_come_out_whole_wherever_the_bytes_were_cut(
    items: list[Item], cuts: list[int]
) -> None:
    data = b"".join(item.data for item in items)
    cutter, begin = ItemCutter(), 0
    found: list[Item] = []
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += cutter.feed(data[begin:end])
        begin = end
    assert found == items
