/**
 * How many messages may still be sent, and when again. A limit's `reset_ms` is the time until one
 * more is free.
 */

const TICK_MS = 250;
/** The count is shown when a tenth of the limit is left, or this many messages. */
const FEW_LEFT = 3;

/** When the writer is told: `{blocked, text}`; `text` is "" while there is nothing to tell. */
export function noteFor({ user, global, nowMs }) {
  for (const [limit, words] of [[user, ""], [global, "Tandem is very busy. "]]) {
    if (limit !== null && limit.remaining <= 0 && limit.resetAtMs > nowMs) {
      const seconds = Math.ceil((limit.resetAtMs - nowMs) / 1000);
      return { blocked: true, text: `${words}You can write again in ${seconds} s` };
    }
  }
  if (user === null || user.resetAtMs <= nowMs) return { blocked: false, text: "" };
  if (user.remaining > Math.max(FEW_LEFT, Math.floor(user.limit / 10))) {
    return { blocked: false, text: "" };
  }
  const seconds = Math.ceil((user.resetAtMs - nowMs) / 1000);
  const messages = user.remaining === 1 ? "1 message" : `${user.remaining} messages`;
  return { blocked: false, text: `${messages} left, one more in ${seconds} s` };
}

export class Limits {
  #user = null;
  #global = null;
  #onNote;
  #last = "";
  #timer = null;

  /** `onNote({blocked, text})` is called whenever the note changes, each second of a countdown. */
  constructor(onNote) {
    this.#onNote = onNote;
  }

  /** Takes the `limits` of a welcome or an event. */
  update({ user, global } = {}) {
    this.#user = deadlined(user) ?? this.#user;
    this.#global = deadlined(global) ?? this.#global;
    this.#tick();
  }

  /** A message was refused: nothing goes for `forMs`. */
  block(forMs) {
    const limit = this.#user?.limit ?? 0;
    this.#user = { limit, remaining: 0, resetAtMs: Date.now() + forMs };
    this.#tick();
  }

  #tick() {
    clearTimeout(this.#timer);
    const note = noteFor({ user: this.#user, global: this.#global, nowMs: Date.now() });
    const told = JSON.stringify(note);
    if (told !== this.#last) {
      this.#last = told;
      this.#onNote(note);
    }
    if (note.text !== "") this.#timer = setTimeout(() => this.#tick(), TICK_MS);
  }
}

function deadlined(limit) {
  if (!limit) return null;
  return {
    limit: limit.limit,
    remaining: limit.remaining,
    resetAtMs: Date.now() + limit.reset_ms,
  };
}
