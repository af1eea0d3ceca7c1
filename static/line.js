/**
 * What is shown of a conversation: the messages of one branch, the replies that grow, and what is
 * not sent yet, as one line in reading order. Pure.
 */

import { questionOf } from "./thread.js";

/** `runs` are the live runs of `thread`, `entries` what the outbox holds for it. */
export function lineOf(thread, runs, entries) {
  const unsent = entries.filter((entry) => "text" in entry && !thread.hasClientId(entry.id));
  const edited = unsent.findLast((entry) => entry.type === "edit")?.message;
  const again = entries.filter((entry) => entry.type === "regenerate");
  const canRegenerate = runs.length === 0 && again.length === 0;
  const growing = runs.map(growingItem);
  const shown = shownOf(thread.messages, growing, edited);
  return [
    ...inReadingOrder(shown, growing, { isWhole: thread.isRead }).map((item) => ({
      ...item,
      canRegenerate,
      again: again.find(({ message }) => item.role === "assistant" && isAbout(item, message)),
    })),
    ...unsent.map(unsentItem),
  ];
}

function isAbout(reply, id) {
  return questionOf(reply) === id || reply.id === id;
}

/**
 * `messages` without those that give way: a reply that is made anew stands in the place of the one
 * before, and what is said instead in the place of message `edited`; what followed goes with them.
 */
function shownOf(messages, growing, edited) {
  const cuts = growing
    .filter((reply) => reply.reply_to !== null)
    .map(({ reply_to: question, since }) => ({
      at: messages.findIndex((held) => questionOf(held) === question),
      since: since ?? Infinity,
    }));
  if (edited !== undefined) {
    cuts.push({ at: messages.findIndex((held) => held.id === edited), since: Infinity });
  }
  // What was said since the reply was begun anew does not follow the one before.
  return messages.filter(
    (message, index) =>
      !cuts.some(({ at, since }) => at >= 0 && index >= at && message.arrived <= since),
  );
}

/** Each reply behind the message that it answers; `growing` ones of other branches are left out. */
function inReadingOrder(messages, growing, { isWhole }) {
  const ids = new Set(messages.map((message) => message.id));
  const fitting = growing.filter((reply) => !isWhole || ids.has(reply.reply_to));
  const answers = new Map();
  const line = [];
  for (const message of [...messages, ...fitting]) {
    const question = questionOf(message);
    if (ids.has(question)) answers.set(question, [...(answers.get(question) ?? []), message]);
    else line.push(message);
  }
  return line.flatMap((message) => {
    const answer = answers.get(message.id);
    return answer === undefined ? [message] : [{ ...message, reply: undefined }, ...answer];
  });
}

function growingItem(run) {
  return {
    key: `run:${run.id}`,
    role: "assistant",
    text: run.text,
    reply_to: run.question,
    memories: run.memories ?? [],
    live: true,
    stopping: run.stopping,
    since: run.since,
  };
}

function unsentItem(entry) {
  return {
    key: `client:${entry.id}`,
    role: "user",
    text: entry.text,
    timestamp: entry.createdMs / 1000,
    entry: { ...entry },
  };
}
