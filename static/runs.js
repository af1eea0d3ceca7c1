/** The replies being made for this user now, in whichever conversation. */

import { Run } from "./run.js";

const MOST_ENDED = 500;

export class Runs {
  #live = new Map();
  #ended = new Set();
  #serial = 0;

  /** The runs of a conversation, in the order in which they were heard of. */
  of(conversation) {
    return [...this.#live.values()].filter((run) => run.conversation === conversation);
  }

  /** Run `id`, while it is being made. */
  get(id) {
    return this.#live.get(id);
  }

  /** All runs, in that order. */
  all() {
    return [...this.#live.values()];
  }

  /** A point in time to give to `settle`. */
  mark() {
    return this.#serial;
  }

  /** Heard that run `id` exists; null when it is over already. */
  begin(id, { conversation = null, question = null, model = null } = {}) {
    if (this.#ended.has(id)) return null;
    let run = this.#live.get(id);
    if (run === undefined) {
      this.#serial += 1;
      run = new Run(id, this.#serial);
      this.#live.set(id, run);
    }
    run.conversation ??= conversation;
    run.question ??= question;
    run.model ??= model;
    return run;
  }

  /** Run `id` is over; returns what was held of it, if anything. */
  end(id) {
    const run = this.#live.get(id);
    this.#live.delete(id);
    this.#ended.add(id);
    if (this.#ended.size > MOST_ENDED) this.#ended.delete(this.#ended.values().next().value);
    return run;
  }

  /** Whether run `id` is being made, as far as is known. */
  has(id) {
    return this.#live.has(id);
  }

  /** Message `id` is erased: no reply in the making shows it as remembered. */
  forgetMemory(id) {
    for (const run of this.#live.values()) run.forgetMemory(id);
  }

  /** It is not known what became of run `id`; it may be heard of again. */
  drop(id) {
    this.#live.delete(id);
  }

  /**
   * A conversation was read: `listed` are its live runs then. Those heard of before `mark` (taken
   * when the read began) that are not listed ended unseen. Returns the runs that were not known.
   */
  settle(conversation, listed, mark) {
    const ids = new Set(listed.map((entry) => entry.run));
    for (const run of this.of(conversation)) {
      if (!ids.has(run.id) && run.serial <= mark) this.drop(run.id);
    }
    const fresh = listed.filter((entry) => !this.#live.has(entry.run));
    for (const entry of listed) {
      this.begin(entry.run, { conversation, question: entry.message })?.catchUp(entry.text);
    }
    return fresh.flatMap((entry) => this.#live.get(entry.run) ?? []);
  }
}
