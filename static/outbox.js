/**
 * What was asked for and is not yet known to be done. Messages and edits are kept by the browser,
 * so that neither a lost connection nor a closed tab loses one; all of it is sent again under the
 * same id, which the server carries out once.
 */

import { readStored, removeStored, storedNames, watchRemovals, writeStored } from "./storage.js";
import { newUlid } from "./ulid.js";

const PREFIX = "outbox.";
const ANSWER_WITHIN_MS = 15_000;
const FIRST_PAUSE_MS = 1_000;
const MOST_ATTEMPTS = 5;
const MOST_REPLIES_LOST = 6;
const KEPT_FOR_MS = 7 * 24 * 3600 * 1000;
/** Accepted commands whose replies are still to come; of older ones a lost reply is not asked again. */
const MOST_ACCEPTED = 100;

/** The fields of a command that its frame has, besides `type` and `id`. */
const FIELDS = {
  send: ["conversation", "text"],
  edit: ["message", "text"],
  regenerate: ["message"],
  stop: ["run"],
};

/**
 * An entry: {id, type, conversation, text?, message?, run?, user, createdMs, state, sent, attempts,
 * lost, dueMs, error}; state is "sending" (on its way, or waiting for a connection), "waiting" (for
 * `dueMs`) or "failed" (until somebody retries or removes it). `lost` counts the replies that the
 * server lost.
 */
export class Outbox {
  #entries = new Map();
  /** Accepted commands by their runs, while the reply is made. */
  #accepted = new Map();
  #send;
  #onChange;
  #user = null;
  #connected = false;
  #timer = null;

  /** `send(frame)` says whether there was a connection; `onChange()` follows every change. */
  constructor({ send, onChange }) {
    this.#send = send;
    this.#onChange = onChange;
    for (const name of storedNames(PREFIX)) this.#load(name);
    watchRemovals(PREFIX, (name) => {
      this.#entries.delete(name.slice(PREFIX.length));
      this.#onChange();
    });
  }

  #load(name) {
    const entry = readStored(name);
    if (entry === null || Date.now() - entry.createdMs > KEPT_FOR_MS) removeStored(name);
    else this.#entries.set(entry.id, { type: "send", lost: 0, ...entry, dueMs: 0, attempts: 0 });
  }

  get(id) {
    return this.#entries.get(id);
  }

  /** The entries of a conversation, oldest first; those of other users stay out of sight. */
  of(conversation) {
    return this.#own().filter((entry) => entry.conversation === conversation);
  }

  #own() {
    const own = [...this.#entries.values()].filter((entry) => entry.user === this.#user);
    return own.sort((one, other) => one.createdMs - other.createdMs);
  }

  /**
   * Takes a command: `type`, `conversation` and what its frame has; `id` is made unless given, and
   * `sent` says that the server may have it already.
   */
  add(command) {
    const entry = {
      id: newUlid(),
      sent: false,
      ...command,
      user: this.#user,
      createdMs: Date.now(),
      state: "sending",
      attempts: 0,
      lost: 0,
      dueMs: 0,
      error: null,
    };
    this.#entries.set(entry.id, entry);
    this.#keep(entry);
    this.#pump();
    return entry;
  }

  /** Connected as `user`: what is under way may be lost, so it is sent again. */
  connected(user) {
    this.#user = user;
    this.#connected = true;
    for (const entry of this.#entries.values()) {
      if (entry.user === null) this.#change(entry, { user });
      if (entry.state === "sending") entry.dueMs = 0;
    }
    this.#pump();
  }

  disconnected() {
    this.#connected = false;
    clearTimeout(this.#timer);
  }

  /** The server has it, and makes `run` for it. Returns the entry, if it was in here. */
  accepted(id, run) {
    const entry = this.remove(id);
    if (entry !== undefined && run !== undefined) {
      this.#accepted.set(run, entry);
      if (this.#accepted.size > MOST_ACCEPTED) this.replied(this.#accepted.keys().next().value);
    }
    return entry;
  }

  /** The reply `run` has come to its end. */
  replied(run) {
    this.#accepted.delete(run);
  }

  /** The server does not know `run`: says whether it is asked for again, in a while. */
  replyLost(run) {
    const entry = this.#accepted.get(run);
    this.#accepted.delete(run);
    if (entry === undefined || entry.lost >= MOST_REPLIES_LOST) return false;
    const dueMs = Date.now() + FIRST_PAUSE_MS * 2 ** entry.lost;
    this.#entries.set(entry.id, entry);
    this.#change(entry, { state: "waiting", lost: entry.lost + 1, attempts: 0, dueMs });
    this.#pump();
    return true;
  }

  /** The server refused `id` with an `error` frame; says whether the entry was in here. */
  rejected(id, error) {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    const attempts = entry.attempts + 1;
    const limited = error.code === "rate_limited";
    if (!error.retryable || (attempts >= MOST_ATTEMPTS && !limited)) {
      this.#change(entry, { state: "failed", attempts, error });
    } else {
      const pauseMs = error.retry_after_ms ?? FIRST_PAUSE_MS * 2 ** (attempts - 1);
      const dueMs = Date.now() + pauseMs;
      // A limit is not the message's fault, and it holds for what is written after it as well.
      this.#change(entry, { state: "waiting", attempts: limited ? 0 : attempts, dueMs, error });
    }
    this.#pump();
    return true;
  }

  /** Messages may be sent again, perhaps sooner than was said. */
  limitLifted() {
    for (const entry of this.#entries.values()) {
      if (entry.state === "waiting" && isLimited(entry)) entry.dueMs = 0;
    }
    this.#pump();
  }

  /** Sends a failed entry once more; under a new id where its own is taken. */
  retry(id) {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (entry.error?.code === "id_conflict") {
      this.remove(id);
      this.add({ type: entry.type, conversation: entry.conversation, ...fieldsOf(entry) });
      return;
    }
    this.#change(entry, { state: "sending", attempts: 0, dueMs: 0, error: null });
    this.#pump();
  }

  remove(id) {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    removeStored(PREFIX + id);
    this.#pump();
    return entry;
  }

  /** The message that was sent as `id` is erased: its words are not kept, and not sent again. */
  forget(id) {
    for (const [run, entry] of [...this.#accepted]) if (entry.id === id) this.replied(run);
    if (this.#entries.has(id)) this.remove(id);
  }

  /** A conversation is gone: nothing more is asked for in it. */
  removeAll(conversation) {
    for (const entry of this.of(conversation)) this.remove(entry.id);
  }

  /** Sends what is due, in order; an entry that waits holds back what was written after it. */
  #pump() {
    clearTimeout(this.#timer);
    const held = new Set();
    let isLimit = false;
    let nextMs = Infinity;
    for (const entry of this.#connected ? this.#own() : []) {
      const isHeld = entry.type !== "stop" && (isLimit || held.has(entry.conversation));
      if (entry.state === "failed" || isHeld) continue;
      if (entry.dueMs <= Date.now()) this.#dispatch(entry);
      // What was accepted before stands in its place already, and holds nothing back.
      if (entry.state === "waiting" && entry.lost === 0) held.add(entry.conversation);
      nextMs = Math.min(nextMs, entry.dueMs);
      isLimit ||= entry.state === "waiting" && isLimited(entry);
    }
    if (nextMs < Infinity) {
      this.#timer = setTimeout(() => this.#pump(), Math.max(0, nextMs - Date.now()));
    }
    this.#onChange();
  }

  #dispatch(entry) {
    const retry = entry.sent && entry.type === "send";
    const dueMs = Date.now() + ANSWER_WITHIN_MS;
    // Kept as sent before it is: a crash in between must not make the server think it is new.
    this.#change(entry, { state: "sending", sent: true, error: null, dueMs });
    const frame = { type: entry.type, id: entry.id, ...fieldsOf(entry) };
    this.#send(retry ? { ...frame, retry: true } : frame);
  }

  #change(entry, changes) {
    Object.assign(entry, changes);
    this.#keep(entry);
  }

  #keep(entry) {
    // Whoever comes back later does not want to end a reply any more.
    if (entry.type !== "stop") writeStored(PREFIX + entry.id, entry);
  }
}

function fieldsOf(entry) {
  return Object.fromEntries(FIELDS[entry.type].map((name) => [name, entry[name]]));
}

function isLimited(entry) {
  return entry.error?.code === "rate_limited";
}
