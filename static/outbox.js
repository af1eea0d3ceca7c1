/**
 * What was written and is not yet known to be stored. Kept by the browser, so that neither a
 * lost connection nor a closed tab loses a message; sent again under the same id, which the
 * server stores once.
 */

import { readStored, removeStored, storedNames, watchRemovals, writeStored } from "./storage.js";
import { newUlid } from "./ulid.js";

const PREFIX = "outbox.";
const ANSWER_WITHIN_MS = 15_000;
const FIRST_PAUSE_MS = 1_000;
const MOST_ATTEMPTS = 5;
const KEPT_FOR_MS = 7 * 24 * 3600 * 1000;

/**
 * An entry: {id, conversation, text, user, createdMs, state, sent, attempts, dueMs, error};
 * state is "sending" (on its way, or waiting for a connection), "waiting" (for `dueMs`) or
 * "failed" (until somebody retries or removes it).
 */
export class Outbox {
  #entries = new Map();
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
    else this.#entries.set(entry.id, { ...entry, dueMs: 0, attempts: 0 });
  }

  /** The entries of a conversation, oldest first; those of other users stay out of sight. */
  of(conversation) {
    return this.#own().filter((entry) => entry.conversation === conversation);
  }

  #own() {
    const own = [...this.#entries.values()].filter((entry) => entry.user === this.#user);
    return own.sort((one, other) => one.createdMs - other.createdMs);
  }

  add(conversation, text) {
    const entry = {
      id: newUlid(),
      conversation,
      text,
      user: this.#user,
      createdMs: Date.now(),
      state: "sending",
      sent: false,
      attempts: 0,
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

  /** The server has it. Returns the entry, if it was in here. */
  accepted(id) {
    return this.remove(id);
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
      this.add(entry.conversation, entry.text);
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

  /** Sends what is due, in order; an entry that waits holds back what was written after it. */
  #pump() {
    clearTimeout(this.#timer);
    const held = new Set();
    let nextMs = Infinity;
    for (const entry of this.#connected ? this.#own() : []) {
      if (entry.state === "failed" || held.has(entry.conversation)) continue;
      if (entry.dueMs <= Date.now()) this.#dispatch(entry);
      if (entry.state === "waiting") held.add(entry.conversation);
      nextMs = Math.min(nextMs, entry.dueMs);
      if (entry.state === "waiting" && isLimited(entry)) break;
    }
    if (nextMs < Infinity) {
      this.#timer = setTimeout(() => this.#pump(), Math.max(0, nextMs - Date.now()));
    }
    this.#onChange();
  }

  #dispatch(entry) {
    const retry = entry.sent;
    const dueMs = Date.now() + ANSWER_WITHIN_MS;
    // Kept as sent before it is: a crash in between must not make the server think it is new.
    this.#change(entry, { state: "sending", sent: true, error: null, dueMs });
    const frame = { type: "send", id: entry.id, conversation: entry.conversation };
    this.#send({ ...frame, text: entry.text, ...(retry ? { retry: true } : {}) });
  }

  #change(entry, changes) {
    Object.assign(entry, changes);
    this.#keep(entry);
  }

  #keep(entry) {
    writeStored(PREFIX + entry.id, entry);
  }
}

function isLimited(entry) {
  return entry.error?.code === "rate_limited";
}
