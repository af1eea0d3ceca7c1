from __future__ import annotations

import pytest

from memory.errors import UpkeepRefused
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.layouts import placement_of, prefix_of, setting_of


@pytest.mark.parametrize("placement", [PerUser("u-"), Sharded("u-", 1), Sharded("u-", 64)])
def test_a_placement_is_known_again_by_its_layout(placement: Placement) -> None:
    found = placement_of(placement.layout, prefix_of(placement.conversations))
    assert (found.layout, found.prefix) == (placement.layout, placement.prefix)
    assert type(found) is type(placement)


@pytest.mark.parametrize("layout", ["", "sharded", "sharded/0", "sharded/x", "per_user/2", "other"])
def test_an_unknown_layout_is_refused(layout: str) -> None:
    with pytest.raises(UpkeepRefused, match="does not know"):
        placement_of(layout, "user_")


def test_a_layout_is_told_as_it_is_configured() -> None:
    assert setting_of("per_user") == 'placement = "per_user"'
    assert setting_of("sharded/4") == 'placement = "sharded" and shards = 4'
