"""What other processes pass on because this one sees to it."""

from __future__ import annotations

import msgspec

from chat_server.authentication import Identity
from chat_server.commands import Commands
from chat_server.conversation_end import end_conversation
from chat_server.courier import Reply
from chat_server.errors import ChatError, told
from chat_server.events import ServerEvent
from chat_server.frames import frame_of
from chat_server.letters import Asked, Rearranged
from chat_server.protocol import Attach, Edit, Regenerate, Send, Stop, parse_frame
from chat_server.state import State
from memory.errors import MemoryFault
from memory.messages import UserId


def rearrange(state: State, change: Rearranged) -> None:
    """Take note of what another process did to a conversation: what this one believes of its end is
    read anew, and replies of a conversation that is gone end without a word.
    """
    lane = state["runs"].known_lane(change.user, change.conversation)
    if lane is not None:
        lane.rearranged()
        if change.gone:
            state["runs"].abandon_lane(lane)
    if change.gone:
        state["late"].forget_conversation(change.user, change.conversation)


async def carry_out(state: State, asked: Asked, reply: Reply) -> None:
    """Do what *asked* says, as if its user were connected here; each event goes to *reply*.

    Raises:
        ChatError: it was not done.
    """
    if asked.deletes is not None:
        try:
            erasure = await end_conversation(state, asked.user, asked.deletes)
        except MemoryFault as fault:
            raise told(fault) from fault
        reply(msgspec.json.encode(erasure))
        return
    identity = Identity(UserId(asked.user), asked.name, asked.expires_at)

    def answer(event: ServerEvent) -> None:
        reply(frame_of(event).payload)

    command = parse_frame(asked.frame.decode())
    match command:
        case Send() | Edit() | Regenerate():
            if state["connections"].draining:
                raise ChatError("shutting_down", "the server restarts; send it again")
            await state["switchboard"].take(command, identity, answer, passed_on=True)
        case Stop():
            await Commands(state, identity, passed_on=True).stop(command, answer)
        case Attach():
            await Commands(state, identity, passed_on=True).attach(command, answer)
        case _:
            raise ChatError("bad_frame", "this cannot be passed on")
