from __future__ import annotations

import random
from itertools import islice

from bench.flame import shares
from bench.generator import sentences
from bench.processes import part_of


def test_every_sentence_of_a_crowd_is_different_and_the_same_again_with_the_same_seed() -> None:
    first, again = (list(islice(sentences(random.Random(1)), 3_000)) for _ in range(2))
    assert first == again
    assert len(set(first)) == 3_000


def test_parts_of_a_server_are_told_by_their_command_line() -> None:
    assert part_of("/usr/bin/redis-server *:0") == "redis"
    assert part_of("python -P -c import chromadb_rust_bindings as chroma run") == "chroma"
    assert part_of("python -m chat_server serve") == "server"


def test_samples_count_for_a_function_alone_and_for_all_that_called_it() -> None:
    stacks = ["run (a.py:1);embed (b.py:2) 3", "run (a.py:9);embed (b.py:7);embed (b.py:8) 1"]
    alone, within, total = shares(stacks)
    assert total == 4
    assert alone == {"embed (b.py)": 4}
    assert within == {"run (a.py)": 4, "embed (b.py)": 4}
