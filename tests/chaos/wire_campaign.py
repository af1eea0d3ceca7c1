"""Many seeded runs against one server at once, and what became of the promises."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import httpx
import msgspec

from tests.chaos.wire_check import Finding, check, check_calls
from tests.chaos.wire_plan import Plan
from tests.chaos.wire_run import Outcome, Run, TabMaker, summed
from tests.chaos.wire_tab import Tab
from tests.chaos.world import World, link_model, model_environment, stub_model

AT_ONCE: Final = 16
RUN_WITHIN_S: Final = 240.0
NEVER_SAID: Final = "\u2042nobody says this\u2042"
"""Has the stub repeat the question and nothing else."""
TOKEN_MS: Final = 8


class Ground(NamedTuple):
    """A server and the stub of its model."""

    world: World
    model: str

    def calls(self) -> Counter[str]:
        """How often the model was asked, by the last words of the user."""
        asked = httpx.get(self.model.removesuffix("/v1") + "/requests", timeout=60).json()
        return Counter(_last_words(request["body"]) for request in asked)

    def log(self) -> list[dict[str, Any]]:
        """What the server that runs now has logged."""
        return list(self.world.server.log)


def _last_words(body: dict[str, Any]) -> str:
    said = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return str(said[-1]) if said else ""


@contextmanager
def ground(
    folder: Path, model_folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Ground]:
    """A ready server with data below *folder*; its log is kept in ``server.log``."""
    link_model(folder / "data", model_folder)
    with ExitStack() as stack:
        model = stack.enter_context(stub_model(echo=NEVER_SAID, token_ms=TOKEN_MS))
        settings = {**model_environment(model), **(environment or {})}
        world = World(folder / "data", settings, output=folder / "server.log")
        stack.callback(world.abandon)
        world.start()
        yield Ground(world, model)
        world.end()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the runs: the findings of each that has any, by its name."""

    runs: int
    broken: dict[str, list[Finding]]
    faults: dict[str, int]
    counts: dict[str, int]
    took_s: float

    def said(self) -> str:
        """The whole of it in a few lines."""
        faults = ", ".join(f"{n} {action}" for action, n in sorted(self.faults.items()))
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()))
        return (
            f"{self.runs} runs in {self.took_s:.0f} s, {len(self.broken)} broken; "
            f"faults: {faults}; tabs: {counts}"
        )


class Campaign:
    """Runs of plans, so many at once, against one server."""

    def __init__(
        self,
        place: Ground,
        *,
        at_once: int = AT_ONCE,
        make_tab: TabMaker = Tab,
        crashed: bool = False,
        forgetful: bool = False,
        on_broken: Callable[[str, list[Finding]], None] = lambda *_: None,
    ) -> None:
        """*crashed*: processes die meanwhile; *forgetful*: who makes which reply is forgotten, so
        that one may be made and told twice. *on_broken* hears of each broken run at once.
        """
        self._place = place
        self._at_once = at_once
        self._make_tab = make_tab
        self._crashed = crashed
        self._forgetful = forgetful
        self._on_broken = on_broken
        self._outcomes: list[tuple[str, Outcome]] = []
        self._broken: dict[str, list[Finding]] = {}

    async def run(self, plans: Sequence[Plan]) -> Report:
        """All of them; then the model's requests are counted."""
        began = time.monotonic()
        waiting = iter(plans)
        limits = httpx.Limits(max_connections=4 * self._at_once)
        async with (
            httpx.AsyncClient(base_url=self._place.world.url, timeout=30, limits=limits) as http,
            anyio.create_task_group() as tasks,
        ):
            http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            for _ in range(min(self._at_once, len(plans))):
                tasks.start_soon(self._one_after_the_other, waiting, http)
        self._count_calls()
        faults, counts = summed([outcome for _, outcome in self._outcomes])
        return Report(
            runs=len(plans),
            broken=self._broken,
            faults=faults,
            counts=counts,
            took_s=time.monotonic() - began,
        )

    async def _one_after_the_other(self, plans: Iterator[Plan], http: httpx.AsyncClient) -> None:
        for plan in plans:
            await self._run(plan, http)

    async def _run(self, plan: Plan, http: httpx.AsyncClient) -> None:
        run = Run(
            plan,
            http,
            make_tab=self._make_tab,
            crashed=self._crashed,
            forgetful=self._forgetful,
        )
        try:
            with anyio.fail_after(RUN_WITHIN_S):
                outcome = await run.run()
        except (TimeoutError, httpx.HTTPError, AssertionError) as failure:
            detail = f"{type(failure).__name__}: {failure}"
            self._note(plan.name, [Finding("complaint", plan.name, detail)])
            return
        self._outcomes.append((plan.name, outcome))
        if found := check(outcome.books):
            self._keep(plan, outcome)
            self._note(plan.name, found)

    def _keep(self, plan: Plan, outcome: Outcome) -> None:
        """Write down what was planned and what happened, beside the data folder."""
        path = self._place.world.data_dir.parent / f"{plan.name.replace(' ', '-')}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode((plan, outcome))))

    def _count_calls(self) -> None:
        """The last check. A call is in vain where the question could not be stored: that was told,
        and the client sent it again; and where a process died.
        """
        calls = self._place.calls()
        found = {
            name: findings
            for name, outcome in self._outcomes
            if (findings := check_calls(outcome.books, calls))
        }
        in_vain = sum(event.get("event") == "turn.refused" for event in self._place.log())
        strict = not (self._crashed or self._forgetful)
        if strict and sum(map(len, found.values())) > in_vain:
            for name, findings in found.items():
                self._note(name, findings)

    def _note(self, name: str, found: list[Finding]) -> None:
        self._broken.setdefault(name, []).extend(found)
        self._on_broken(name, found)


def new_nonce() -> str:
    """What makes a campaign's words its own."""
    return f"{random.randrange(1 << 16):04x}"
