from __future__ import annotations

import numpy as np

from memory.hot_order import KEPT_SHARE, HotOrder

NEVER = np.zeros(100, np.uint8)


def order_of(slots: int) -> HotOrder:
    order = HotOrder()
    for slot in range(slots):
        order.add(slot, older=False)
    return order


def test_the_oldest_leaves_first() -> None:
    order = order_of(3)
    order.add(9, older=True)
    assert [order.pop(NEVER) for _ in range(4)] == [9, 0, 1, 2]


def test_what_was_recalled_is_kept_in_place_of_what_was_less_often() -> None:
    order, recalled = order_of(2 * KEPT_SHARE), NEVER.copy()
    recalled[[0, 1, 2]] = (2, 1, 3)
    assert order.pop(recalled) == 1
    assert (order.kept, order.slots().tolist()[:3]) == (2, [0, 2, 3])


def test_one_leaves_out_of_its_turn_wherever_it_is() -> None:
    order, recalled = order_of(KEPT_SHARE), NEVER.copy()
    recalled[0] = 1
    assert order.pop(recalled) == 1
    order.remove(0)
    order.remove(5)
    assert order.kept == 0
    assert order.slots().tolist() == [2, 3, 4, 6, 7]


def test_an_order_is_restored() -> None:
    order = HotOrder()
    order.restore(2, 5)
    assert order.kept == 2
    assert order.slots().tolist() == [0, 1, 2, 3, 4]
