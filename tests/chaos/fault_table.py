"""The faults that a server meets, row by row, and what shows that each is borne."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.chaos import (
    faults_disk,
    faults_index,
    faults_pause,
    faults_process,
    wire_client,
    wire_identity,
    wire_scenes,
    wire_workers,
)

KILL_LOOP: Final = "random kill -9"
FAULTS: Final = (
    *faults_index.FAULTS,
    *faults_disk.FAULTS,
    *faults_pause.FAULTS,
    *faults_process.FAULTS,
    *wire_scenes.FAULTS,
    *wire_identity.FAULTS,
    *wire_client.FAULTS,
    *wire_workers.FAULTS,
)


class Row(NamedTuple):
    """A fault; ``shown_by`` are names of ``FAULTS``, or tests (``file::function``).

    ``later``: what is not shown yet, and why.
    """

    number: int
    fault: str
    shown_by: tuple[str, ...]
    later: str = ""


MEMORY: Final = "tests/memory/"
SERVER: Final = "tests/chat_server/"
WHOLE: Final = "tests/integration/"

TABLE: Final = (
    Row(
        1,
        "the store's process is killed in the middle of a write",
        (KILL_LOOP, "Chroma stays away during replies"),
    ),
    Row(
        2,
        "an index is written by half",
        ("kill -9 while the index is written", "index files damaged"),
    ),
    Row(3, "the store crashes", ("Chroma crashes (SIGSEGV)",)),
    Row(
        4,
        "power fails, fsync fails",
        (
            "fsync fails with EIO",
            f"{MEMORY}test_chroma_process.py::test_a_new_database_is_in_wal_mode_and_indexed",
        ),
        later="a real loss of power cannot be made here; fsync errors stand for it",
    ),
    Row(5, "the disk is full", ("full disk",)),
    Row(6, "no descriptors are left", ("no descriptors left",)),
    Row(
        7,
        "more collections than Chroma keeps open",
        (f"{MEMORY}test_chroma_collections.py::test_open_collections_are_bounded",),
        later="sharded placement opens a few; per_user is for stores of another kind",
    ),
    Row(
        8,
        "a second process on the same folder",
        (
            "two servers on one folder",
            f"{WHOLE}test_starting.py::test_a_second_server_on_the_same_data_is_refused",
        ),
    ),
    Row(9, "the log grows", (), later="a figure, not a fact: bench/store.py"),
    Row(
        10,
        "Redis is killed, flushed, hung",
        (
            "Redis flushed, killed, hung",
            "wire: Redis flushed",
            "wire: Redis paused for 5 s",
            "wire: Redis flushed, two workers",
            "wire: Redis paused for 5 s, two workers",
            f"{WHOLE}test_faults.py::test_a_flushed_redis_is_rebuilt_and_the_reply_still_knows",
        ),
    ),
    Row(
        11,
        "Redis fails over",
        (),
        later="one Redis, on the same machine, has nothing to fail over to",
    ),
    Row(
        12,
        "an event is dropped between workers",
        ("wire: the lines between workers are cut", "wire: messages between workers are lost"),
    ),
    Row(
        13,
        "the server is killed while a reply is made",
        (
            "the server is killed in the middle of replies",
            "wire: the server is killed",
            "wire: a worker is killed",
            f"{WHOLE}test_journal.py::test_a_killed_server_has_what_it_had_shown_when_it_comes_back",
        ),
    ),
    Row(
        14,
        "the model hangs, refuses, is cut off",
        (f"{WHOLE}test_faults.py::test_a_failing_model_is_told_clearly_and_costs_no_question",),
    ),
    Row(
        15,
        "the client vanishes",
        (
            "wire: broken lines",
            "wire: broken lines, two workers",
            "wire: each fault at each moment",
            "wire: a laptop sleeps for too long",
            "wire: the client library on broken lines",
            f"{WHOLE}test_whole_conversation.py::test_a_reply_goes_on_when_its_client_leaves",
        ),
    ),
    Row(
        16,
        "a slow reader",
        (
            f"{SERVER}test_outbox.py::test_a_slow_reader_gets_every_piece_and_every_lasting_event_in_order",
        ),
    ),
    Row(
        17,
        "somebody is busy for long",
        (
            f"{SERVER}test_client_connection.py::test_hello_carries_the_token_and_a_ping_is_answered",
        ),
    ),
    Row(
        18,
        "the same is said twice, late, at once",
        (
            "Chroma stands still (SIGSTOP)",
            "two servers are told the same at once",
            f"{WHOLE}test_whole_conversation.py::test_a_send_repeated_with_the_same_id_stores_nothing_twice",
        ),
    ),
    Row(
        19,
        "a flood from one user",
        (f"{SERVER}test_rate_limit.py::test_a_user_s_limit_is_refused_with_the_time_it_frees",),
    ),
    Row(
        20,
        "frames that are too large or broken",
        (
            f"{WHOLE}test_bad_input.py::test_oversized_binary_and_broken_frames_close_the_connection",
        ),
    ),
    Row(
        21,
        "who says nothing",
        (f"{WHOLE}test_bad_input.py::test_who_says_nothing_for_ten_seconds_is_sent_away",),
        later="slow request headers are a matter for the proxy in front",
    ),
    Row(
        22,
        "a page of another site",
        (f"{WHOLE}test_bad_input.py::test_a_page_of_another_origin_is_refused_before_the_upgrade",),
    ),
    Row(
        23,
        "forged and expired tokens",
        (
            "wire: a token ends during a reply",
            f"{SERVER}test_authentication.py::test_any_altered_byte_makes_a_token_worthless",
        ),
    ),
    Row(
        24,
        "somebody else's conversation",
        (
            KILL_LOOP,
            f"{WHOLE}test_bad_input.py::test_a_conversation_of_somebody_else_does_not_exist",
            f"{WHOLE}test_whole_conversation.py::test_twenty_users_talk_at_once_and_nobody_is_mixed_up",
        ),
    ),
    Row(
        25,
        "poisoned memories",
        (
            f"{WHOLE}test_bad_input.py::test_pages_carry_a_policy_that_allows_no_foreign_script_or_image",
        ),
    ),
    Row(
        26,
        "a user is erased",
        (
            f"{WHOLE}test_erasure.py::test_no_byte_of_a_user_is_left_while_others_go_on",
            f"{WHOLE}test_erasure.py::test_a_killed_server_finishes_what_it_began",
        ),
    ),
    Row(27, "a key is lost", (), later="nothing is encrypted yet"),
    Row(
        28,
        "a backup is restored",
        (
            f"{MEMORY}upkeep/test_restore.py::test_a_store_comes_back_as_it_was",
            f"{MEMORY}upkeep/test_restore.py::test_who_was_erased_since_does_not_come_back",
        ),
    ),
    Row(
        29,
        "another version of Chroma",
        (
            f"{MEMORY}upkeep/test_schema_guard.py::test_a_newer_schema_is_refused_with_what_to_do",
            f"{MEMORY}upkeep/test_schema_guard.py::test_a_much_older_schema_is_refused",
        ),
    ),
    Row(30, "the clock jumps", ("the clock jumps two days",)),
    Row(
        31,
        "another embedding model",
        (
            f"{MEMORY}upkeep/test_keeper.py::test_another_embedder_makes_all_vectors_anew_and_words_stay",
        ),
    ),
    Row(
        32,
        "the embedder fails",
        (
            f"{MEMORY}test_backfill.py::test_what_is_said_while_the_embedder_fails_is_filled_in_when_it_works_again",
        ),
    ),
)
