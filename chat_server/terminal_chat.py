"""``python -m chat_server chat``: a conversation in the terminal, or through a pipe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Final

import structlog
from anyio.from_thread import BlockingPortal, start_blocking_portal

from chat_server.client import (
    Client,
    ClientError,
    ConnectionLost,
    Conversation,
    Event,
    Memory,
    Message,
    ServerError,
    Welcome,
    new_id,
)
from chat_server.client_connection import websocket_address
from chat_server.client_http import HttpApi
from chat_server.session_file import keep_token, kept_token, session_path
from chat_server.terminal_input import LineInput
from chat_server.terminal_reply import Speaking
from chat_server.terminal_screen import PROMPT, Screen

HISTORY_SHOWN: Final = 10
LISTED: Final = 20

HELP: Final = """\
/new           begin a conversation
/list          your conversations
/open N        go on with number N of the list
/history       what was said here
/search TEXT   look in everything that is remembered
/stop          end the reply that is being written (Ctrl-C does, too)
/me            who you are here
/quit          leave (Ctrl-D does, too)"""

COMMANDS: Final = ("/help", *(line.split()[0] for line in HELP.splitlines()))


def chat(url: str, token: str | None, *, new_user: bool) -> None:
    """Converse with the server at *url* as the holder of *token*; without one, as who was here
    last, or as a new guest, whose token is kept.

    Raises:
        ClientError: there is no such server, or it refuses.
        UnreadableSessions: the kept token cannot be read or kept.
        ValueError: *url* is not an http or https address.
    """
    websocket_address(url)
    # The screen says what matters here; lines of a log would stand in the middle of a reply.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    lines = LineInput(COMMANDS)
    screen = Screen(interactive=lines.interactive)
    with start_blocking_portal() as portal:
        token = token or portal.call(_own_token, url, new_user)
        notices = Notices(lines, screen)
        client = portal.call(partial(Client, url, token=token, on_event=notices.heard))
        with portal.wrap_async_context_manager(client):
            TerminalChat(portal, client, lines, screen).run()


async def _own_token(url: str, new_user: bool) -> str:  # noqa: FBT001  # a portal's call has no keywords
    """The kept token, renewed, or a new guest's; kept for the next time."""
    kept = None if new_user else kept_token(url)
    async with HttpApi(url, kept) as http:
        try:
            token = (await http.session()).token
        except ServerError as refusal:
            if refusal.code != "not_authenticated" or kept is None:
                raise
            # Somebody who was known must not silently become a stranger.
            raise ServerError(
                refusal.code,
                f"the session in {session_path()} is not valid here; --new begins as a new user",
            ) from refusal
    keep_token(url, token)
    return token


class Notices:
    """Says when the connection is lost, and when it is back."""

    def __init__(self, lines: LineInput, screen: Screen) -> None:
        self._lines = lines
        self._screen = screen
        self._lost = False

    def heard(self, event: Event | ConnectionLost) -> None:
        """Called in the client's thread."""
        match event:
            case ConnectionLost(retry_in_s=None):
                self._say(f"the server ended the connection: {event.reason}")
            case ConnectionLost() if not self._lost:
                self._lost = True
                self._say("connection lost; trying again")
            case Welcome() if self._lost:
                self._lost = False
                self._say("connected again")
            case _:
                pass

    def _say(self, text: str) -> None:
        if self._lines.waiting:
            self._screen.beside_prompt(text, self._lines.unfinished)
        else:
            self._screen.note(text)


class TerminalChat:
    """Reads lines in the calling thread; the client lives behind *portal*."""

    def __init__(
        self, portal: BlockingPortal, client: Client, lines: LineInput, screen: Screen
    ) -> None:
        self._portal = portal
        self._client = client
        self._lines = lines
        self._screen = screen
        self._speaking = Speaking(portal, client, lines, screen)
        self._conversation: str | None = None
        self._listed: list[Conversation] = []

    def run(self) -> None:
        """Converse until the end of input, ``/quit`` or Ctrl-C."""
        if self._screen.interactive:
            self._greet()
        going_on = True
        while going_on:
            try:
                going_on = self._obey(self._lines.read(PROMPT))
            except (EOFError, KeyboardInterrupt):
                self._screen.note("")
                return
            except ClientError as failure:
                self._screen.problem(str(failure))

    def _greet(self) -> None:
        """Say where we are, and what was said last."""
        self._screen.note(f"{self._client.url} as {self._client.user}; /help names the commands")
        latest = self._portal.call(self._conversations, 1)
        if latest:
            self._open(latest[0])

    def _obey(self, line: str) -> bool:
        """Do what *line* says; ``False`` ends."""
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return False
        if command.startswith("/"):
            self._command(command, rest.strip())
        elif command:
            self._conversation = self._conversation or new_id()
            return self._speaking.say(line, self._conversation)
        return True

    def _command(self, command: str, rest: str) -> None:
        commands: dict[str, Callable[[], None]] = {
            "/help": lambda: self._screen.line(HELP),
            "/new": self._begin,
            "/list": self._list,
            "/open": lambda: self._open_number(rest),
            "/history": self._history,
            "/search": lambda: self._search(rest),
            "/stop": lambda: self._screen.note("no reply is being written"),
            "/me": self._me,
        }
        if command in commands:
            commands[command]()
        else:
            self._screen.problem(f"{command} is no command; /help names them")

    def _begin(self) -> None:
        self._conversation = None
        self._screen.note("a new conversation")

    def _list(self) -> None:
        self._listed = self._portal.call(self._conversations, LISTED)
        self._screen.conversations(self._listed, self._conversation)

    def _open_number(self, number: str) -> None:
        if not self._listed:
            self._listed = self._portal.call(self._conversations, LISTED)
        if (
            not number.isascii()
            or not number.isdigit()
            or not 1 <= int(number) <= len(self._listed)
        ):
            self._screen.problem("/open N: N is a number of the /list")
            return
        self._open(self._listed[int(number) - 1])

    def _open(self, conversation: Conversation) -> None:
        self._conversation = conversation.id
        self._screen.title(conversation)
        self._history()

    def _history(self) -> None:
        if self._conversation is None:
            self._screen.note("a new conversation: nothing was said yet")
            return
        for message in self._portal.call(self._latest, self._conversation):
            self._screen.message(message)

    def _search(self, query: str) -> None:
        if not query:
            self._screen.problem("/search TEXT: the text is missing")
            return
        found: list[Memory] = self._portal.call(self._client.search, query)
        self._screen.found(found)

    def _me(self) -> None:
        self._screen.line(f"{self._client.user} at {self._client.url}")
        limits = self._client.limits
        if limits is not None:
            self._screen.line(f"{limits.remaining} of {limits.limit} messages left for now")

    async def _conversations(self, most: int) -> list[Conversation]:
        listed: list[Conversation] = []
        async with aclosing(self._client.conversations(page=most)) as found:
            async for conversation in found:
                listed.append(conversation)
                if len(listed) == most:
                    break
        return listed

    async def _latest(self, conversation: str) -> list[Message]:
        """The last messages, oldest first."""
        told: list[Message] = []
        async with aclosing(self._client.history(conversation, page=HISTORY_SHOWN)) as found:
            async for message in found:
                told.append(message)
                if len(told) == HISTORY_SHOWN:
                    break
        return told[::-1]
