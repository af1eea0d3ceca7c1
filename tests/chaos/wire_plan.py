"""What happens in one seeded run: what is said from which tab, and how each tab's line breaks."""

from __future__ import annotations

import random
from typing import Final, Literal

import msgspec

from tests.chaos.wire_faults import ACTIONS, Action, LineFault, Moment, Way

StepKind = Literal["send", "edit", "regenerate"]

TABS: Final = (2, 3)
STEPS: Final = (1, 3)
FAULTS: Final = (1, 5)
"""Of each line."""
ON_CONNECTIONS: Final = (0, 0, 0, 0, 1, 1, 2)
WORDS: Final = (
    "tide", "lantern", "naïve", "Ünïcode", "cafe\u0301", "e\u0301e\u0301", "\u200dx",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f1e9\U0001f1ea",
    "\U0001d518\U0001d52b\U0001d526", "日本語", "🙂", "🙃🙃", "\U0001f44d\U0001f3fd", "עברית",
    "river", "seven", '"quoted"', "\\n", "</b>", "{}", "long-winded", "…",
)  # fmt: skip
"""What is cut in the wrong place where code points, code units and bytes are mixed up."""
DOWN: Final = (
    "accepted", "message.created", "run.started", "run.memories", "run.delta", "run.delta",
    "run.delta", "run.done", "conversation.updated", "limits", "any", "any", "welcome",
)  # fmt: skip
UP: Final = ("hello", "send", "any", "attach", "handshake")
WEIGHTS: Final[dict[Action, int]] = {
    "cut": 4, "torn": 3, "reset": 4, "half_open": 1, "stalled": 1, "delay": 3, "throttle": 2,
    "drop": 3, "duplicate": 3, "split": 3,
}  # fmt: skip
AMOUNTS: Final[dict[Action, tuple[int, int]]] = {
    "cut": (0, 400), "torn": (0, 400), "reset": (0, 400), "delay": (20, 600),
    "throttle": (2_000, 20_000),
}  # fmt: skip


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a user does, from tab *tab*.

    *text*: what is said, or instead of an earlier message. *stop_after*: the reply is stopped when
    some tab has so many code points of it, from *stop_tab*. *wait*: the next step follows the end
    of the reply; else it follows at once.
    """

    kind: StepKind
    tab: int
    conversation: int = 0
    text: str = ""
    stop_after: int | None = None
    stop_tab: int = 0
    wait: bool = True


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. *late*: the last tab is opened only when the first step was taken."""

    name: str
    seed: int
    canary: str
    tabs: int
    steps: tuple[Step, ...]
    lines: tuple[tuple[LineFault, ...], ...]
    late: bool = False


def plan_of(seed: int, nonce: str = "", *, branches: bool = True) -> Plan:
    """The plan that follows from *seed*; *nonce* makes its words its own in a store that has seen
    the seed before. Without *branches* nothing is said instead of something.
    """
    choices = random.Random(seed)
    canary = f"s{seed}x{nonce}q"
    tabs = choices.randint(*TABS)
    steps = [_step(choices, canary, number, tabs) for number in range(choices.randint(*STEPS))]
    if not branches:
        steps = [msgspec.structs.replace(step, kind="send") for step in steps]
    lines = tuple(_faults(choices) for _ in range(tabs))
    return Plan(
        name=f"seed {seed}",
        seed=seed,
        canary=canary,
        tabs=tabs,
        steps=tuple(steps),
        lines=lines,
        late=tabs > 2 and choices.random() < 0.3,
    )


NOT_NOTICED: Final[frozenset[Action]] = frozenset({"half_open", "stalled"})
"""What a client that waits for the server's heartbeat notices after half a minute only."""


def plan_of_one(seed: int, nonce: str = "") -> Plan:
    """The same where everything is said from the first tab, which the client library is."""
    plan = plan_of(seed, nonce)
    first = tuple(fault for fault in plan.lines[0] if fault.action not in NOT_NOTICED)
    steps = tuple(msgspec.structs.replace(step, tab=0, stop_tab=1) for step in plan.steps)
    return msgspec.structs.replace(plan, steps=steps, lines=(first, *plan.lines[1:]), late=False)


MOMENTS: Final[dict[str, Moment]] = {
    "the handshake": Moment("down", "handshake"),
    "hello": Moment("up", "hello"),
    "welcome": Moment("down", "welcome"),
    "send": Moment("up", "send"),
    "accepted": Moment("down", "accepted"),
    "message.created": Moment("down", "message.created"),
    "run.started": Moment("down", "run.started"),
    "run.memories, before the first delta": Moment("down", "run.memories"),
    "the first delta": Moment("down", "run.delta"),
    "the third delta": Moment("down", "run.delta", 3),
    "run.done": Moment("down", "run.done"),
    "what comes after run.done": Moment("down", "conversation.updated", 2),
}
REPLAYS: Final[dict[str, Moment]] = {
    "welcome again": Moment("down", "welcome"),
    "the first frame of the replay": Moment("down", "any", 2),
    "the third frame of the replay": Moment("down", "any", 4),
    "the reply of the replay": Moment("down", "run.delta"),
}
"""Moments of the connection after one that was cut while a reply came."""
MANY_WORDS: Final = 30


def moment_plans(nonce: str) -> list[Plan]:
    """Each fault at each moment at which it makes a difference, of the tab that speaks; another
    tab watches on a line that holds.
    """
    cut = LineFault(0, Moment("down", "run.delta", 2), "cut", 150)
    found: list[Plan] = []
    for action in ACTIONS:
        amount = AMOUNTS.get(action, (0, 0))[1] // 4
        begun = [(name, (LineFault(0, it, action, amount),)) for name, it in MOMENTS.items()]
        again = [(name, (cut, LineFault(1, it, action, amount))) for name, it in REPLAYS.items()]
        for name, faults in (*begun, *again):
            choices = random.Random(name)
            canary = f"f{len(found)}x{nonce}q"
            words = " ".join(choices.choice(WORDS) for _ in range(MANY_WORDS))
            step = Step(kind="send", tab=0, text=f"{canary}0 {words} end")
            plan = Plan(
                name=f"{action} at {name}",
                seed=len(found),
                canary=canary,
                tabs=2,
                steps=(step,),
                lines=(faults, ()),
            )
            found.append(plan)
    return found


def _step(choices: random.Random, canary: str, number: int, tabs: int) -> Step:
    kind: StepKind = "send"
    if number and choices.random() < 0.4:
        kind = choices.choice(("edit", "regenerate"))
    length = 120 if choices.random() < 0.05 else choices.randint(3, 30)
    words = " ".join(choices.choice(WORDS) for _ in range(length))
    return Step(
        kind=kind,
        tab=choices.randrange(tabs),
        conversation=0 if choices.random() < 0.75 else 1,
        text=f"{canary}{number} {words} end",
        stop_after=choices.randint(0, 60) if choices.random() < 0.2 else None,
        stop_tab=choices.randrange(tabs),
        wait=choices.random() < 0.6,
    )


def _faults(choices: random.Random) -> tuple[LineFault, ...]:
    return tuple(_fault(choices) for _ in range(choices.randint(*FAULTS)))


def _fault(choices: random.Random) -> LineFault:
    action = choices.choices(ACTIONS, [WEIGHTS[action] for action in ACTIONS])[0]
    way: Way = "down" if choices.random() < 0.75 else "up"
    kind = choices.choice(DOWN if way == "down" else UP)
    nth = choices.randint(1, 8) if kind in ("any", "run.delta") else choices.randint(1, 2)
    low, high = AMOUNTS.get(action, (0, 0))
    amount = choices.randint(low, high) if choices.random() < 0.7 else low
    return LineFault(choices.choice(ON_CONNECTIONS), Moment(way, kind, nth), action, amount)
