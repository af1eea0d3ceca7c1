/** The messages of the open conversation, in the order in which they are read. */

export class Thread {
  #messages = [];
  #arrived = 0;

  constructor(conversation) {
    this.conversation = conversation;
    /** Nothing of it is stored yet: the server does not know it. */
    this.isNew = false;
    /** The last read of it: null before the first, then "loading", "read" or an error. */
    this.reading = null;
    /** Whether it was read at all: then what is held is the branch that is shown. */
    this.isRead = false;
    /** Why it could not be read, until it is; it is said also while it is read once more. */
    this.fault = null;
    /** Something happened during a read that the read may have missed. */
    this.readAgain = false;
    /** The message to show, and how many pages it may be back: {id, pagesLeft}, or null. */
    this.sought = null;
    /** Cursor to the messages before the oldest held, or null. */
    this.before = null;
  }

  get messages() {
    return this.#messages;
  }

  /** Whether the server says that there is no such conversation (of this user). */
  get isMissing() {
    return this.fault !== null && isMissing(this.fault);
  }

  /** Its first message is stored: all of it is held, and there is nothing to read. */
  begin() {
    if (!this.isNew) return;
    this.isNew = false;
    this.settle();
  }

  /** How a read of it ended: with `fault`, or well. */
  settle(fault = null) {
    this.fault = fault;
    this.reading = fault ?? "read";
    this.isRead ||= fault === null;
  }

  /** The key of the element that shows message `id`; null when it is not held. */
  keyOf(id) {
    return this.find(id)?.key ?? null;
  }

  /** What is held of message `id`, if it is. */
  find(id) {
    return this.#messages.find((message) => message.id === id);
  }

  has(id) {
    return this.find(id) !== undefined;
  }

  hasClientId(clientId) {
    return this.#messages.some((message) => message.client_id === clientId);
  }

  /** Whether a message is held that stands where `message` does. */
  hasBeside(message) {
    return this.#messages.some((held) => isSibling(held, message));
  }

  /** A point in time to give to `merge` and `hasGrown`. */
  mark() {
    return this.#arrived;
  }

  /** Whether a message came in live after `mark`. */
  hasGrown(mark) {
    return this.#arrived > mark;
  }

  /**
   * A message came in live: appended, or what is held of it replaced. `key` names its element.
   * One that stands beside a message held takes its place, and what followed goes: another branch
   * is shown from now on.
   */
  add(message, key = null) {
    const index = this.#messages.findIndex((held) => held.id === message.id);
    if (index >= 0) {
      this.#messages[index] = renewed(this.#messages[index], message);
      return;
    }
    this.#arrived += 1;
    const added = { ...message, key: key ?? keyOf(message), arrived: this.#arrived };
    const beside = this.#messages.findIndex((held) => isSibling(held, message));
    if (beside >= 0) {
      const { id, branches = [id] } = this.#messages[beside];
      added.branches ??= [...branches, message.id];
      this.#messages.length = beside;
    }
    this.#messages.push(added);
  }

  /** A message was erased, and `left` is what is left of it: nothing here has its words any more. */
  redact(left) {
    this.#messages = this.#messages.map((held) =>
      held.id === left.id ? renewed(held, left) : { ...held, ...withoutMemory(held, left.id) },
    );
  }

  /**
   * The newest page was read. It replaces what is held of that stretch, except messages that
   * came in live after `mark` (taken when the read began): the page may be older than they.
   */
  merge(page, before, mark) {
    const held = new Map(this.#messages.map((message) => [message.id, message]));
    const inPage = new Set(page.map((message) => message.id));
    const joint = this.#messages.findIndex((message) => inPage.has(message.id));
    const older = joint > 0 ? this.#messages.slice(0, joint) : [];
    const newer = this.#messages.filter(
      (message) => message.arrived > mark && !inPage.has(message.id) && !older.includes(message),
    );
    this.#messages = [...older, ...page.map((message) => joined(held, message)), ...newer];
    if (older.length === 0) this.before = before;
  }

  /** An older page was read. */
  prepend(page, before) {
    const fresh = page.filter((message) => !this.has(message.id));
    this.#messages = [...fresh.map((message) => joined(new Map(), message)), ...this.#messages];
    this.before = before;
  }
}

/** Whether a read failed because there is no such conversation, as far as this user may know. */
export function isMissing(error) {
  return error.code === "unknown_conversation" || error.code === "not_found";
}

/** The id of the message that a reply answers; its parent unless it says otherwise. */
export function questionOf(message) {
  return message.role === "assistant" ? (message.reply_to ?? message.parent ?? null) : null;
}

/** Whether two messages are alternatives: said in the same place, to the same. */
function isSibling(held, message) {
  if (held.id === message.id || held.role !== message.role) return false;
  // A reply that is not stored is nobody's sibling: what comes next is said in its place.
  if (held.stored === false || held.parent === undefined) return false;
  if (held.parent !== message.parent) return false;
  return questionOf(held) === questionOf(message);
}

/** An own message keeps its element when the outbox hands it over, so the client's id names it. */
function keyOf(message) {
  return message.client_id ? `client:${message.client_id}` : message.id;
}

function joined(held, message) {
  const known = renewed(held.get(message.id), message);
  // What stands beside it may have changed unseen: the page knows.
  return { arrived: 0, key: keyOf(message), ...known, branches: message.branches };
}

function withoutMemory({ memories }, id) {
  return memories === undefined ? {} : { memories: memories.filter((memory) => memory.id !== id) };
}

/**
 * What is held of a message, and what is known of it now: it may be stored by now, or answered. Of
 * one that is erased its place is all that stays, whatever an older word says.
 */
function renewed(held, message) {
  if (held?.status === "deleted") return held;
  if (held !== undefined && message.status === "deleted") {
    const { key, arrived, branches } = held;
    return { key, arrived, branches, ...message };
  }
  const { stored, reply, error, ...rest } = held ?? {};
  const isStale = error?.code === "not_stored" && message.stored !== false;
  return { ...rest, ...(error && !isStale ? { error } : {}), ...message };
}
