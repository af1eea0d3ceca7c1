from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.messages import UserId
from memory.placement import (
    PerUser,
    Sharded,
    conversations_name,
    make_placement,
    user_collection_name,
)

CHROMA_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")

users = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text("abzAZ09-._/", max_size=70),
    st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True),
    st.text("0123456789", min_size=1, max_size=4),
    st.sampled_from(["", "a", "A", "a.", "..", "b32.c4", "h.00", "meta", ".meta", "00", "a-", "ü"]),
).map(UserId)
prefixes = st.sampled_from(["user_", "u", "1", "x-", "a23456789_123456789-123456789_"])


@given(prefixes, users)
def test_every_name_is_one_that_chroma_takes(prefix: str, user: UserId) -> None:
    name = user_collection_name(prefix, user)
    assert CHROMA_NAME.fullmatch(name)
    assert ".." not in name
    assert len(name) <= 128
    assert not re.fullmatch(r"[0-9.]+", name) or "." not in name  # no address
    assert name.startswith(prefix)
    assert name == name.lower()


@given(prefixes, users, users)
def test_no_two_users_share_a_collection(prefix: str, one: UserId, other: UserId) -> None:
    names = {user_collection_name(prefix, one), user_collection_name(prefix, other)}
    assert (len(names) == 1) == (one == other)
    assert conversations_name(prefix) not in names


@given(prefixes, users, users, st.integers(1, 100))
def test_the_collections_of_both_policies_can_stand_side_by_side(
    prefix: str, one: UserId, other: UserId, shards: int
) -> None:
    sharded, per_user = Sharded(prefix, shards), PerUser(prefix)
    shared = {shelf.name for shelf in sharded.shards}
    assert sharded.shelf(one).name in shared
    assert {per_user.shelf(one).name, per_user.shelf(other).name}.isdisjoint(shared)
    assert sharded.conversations == per_user.conversations not in shared
    assert len(shared) == shards


@given(prefixes)
def test_the_conversations_collection_is_one_that_chroma_takes(prefix: str) -> None:
    name = conversations_name(prefix)
    assert CHROMA_NAME.fullmatch(name)
    assert ".." not in name


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("ann-7", "user_ann-7"),
        ("00", "user_b32.60o0"),
        ("007", "user_007"),
        ("Ann", "user_b32.85n6s"),
        ("ann@example.org", "user_b32.c5n6sg35f1gmqs3cckn6usj7"),
        ("", "user_h.e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            "x" * 100,
            "user_h.09ecb6ebc8bcefc733f6f2ec44f791abeed6a99edf0cc31519637898aebd52d8",
        ),
    ],
)
def test_names_stay_as_they_are(user: str, name: str) -> None:
    assert user_collection_name("user_", UserId(user)) == name


@given(users)
def test_a_users_own_collection_knows_its_owner(user: UserId) -> None:
    assert PerUser().shelf(user).owner == user


@given(users, st.integers(1, 64))
def test_a_shard_is_one_of_so_many_and_nobodys_own(user: UserId, shards: int) -> None:
    shelf = Sharded("user_", shards).shelf(user)
    assert shelf == Sharded("user_", shards).shelf(user)
    assert shelf.owner is None
    assert shelf.name in {f"user_{shard:02d}" for shard in range(shards)}


def test_users_spread_evenly_and_stay_where_they_are() -> None:
    placement = Sharded("user_", 3)
    names = [placement.shelf(UserId(f"user{number}")).name for number in range(3_000)]
    assert all(names.count(f"user_{shard:02d}") > 900 for shard in range(3))
    assert names[:6] == ["user_00", "user_00", "user_02", "user_00", "user_01", "user_00"]


def test_the_settings_choose_the_policy() -> None:
    assert make_placement("per_user", prefix="p_", shards=3).layout == "per_user"
    assert make_placement("sharded", prefix="p_", shards=3).layout == "sharded/3"
    assert make_placement("sharded", prefix="p_", shards=1).shelf(UserId("a")).name == "p_00"
    for shards in (0, 101):
        with pytest.raises(ValueError, match="at least one"):
            Sharded("p_", shards)
    assert PerUser().shards == ()
