/** Reads the open conversation over HTTP: its newest page, older ones, and back to a message. */

import { readMessages } from "./api.js";
import { Retries } from "./retries.js";
import { isMissing } from "./thread.js";

/** A message that is sought is given up after this many older pages. */
const MOST_PAGES_BACK = 10;

export class Reader {
  #live;
  #hooks;
  #retries = new Retries();

  /**
   * `live` is the LiveState whose runs a page settles. Hooks: `isOpen(thread)`; `isUnsent(thread)`,
   * whether its first message is still in here; `onFound(key)` before the change that shows a
   * sought message (null: it is not there); `onRuns(runs)` after a page named runs that were not
   * known; `onChange()`.
   */
  constructor(live, hooks) {
    this.#live = live;
    this.#hooks = hooks;
  }

  /** Another conversation is open now: of the one before nothing is tried again. */
  leave(thread) {
    thread.sought = null;
    this.#retries.end();
  }

  /** Looks for message `id`; the read that follows goes on with it. */
  seek(thread, id) {
    thread.sought = { id, pagesLeft: MOST_PAGES_BACK };
    this.#seekOn(thread);
  }

  /** Page by page, since a conversation is held without gaps. */
  #seekOn(thread) {
    const { sought } = thread;
    if (sought === null || !this.#hooks.isOpen(thread)) return;
    const key = thread.keyOf(sought.id);
    const isOver = thread.before === null || sought.pagesLeft === 0;
    if (key !== null || (thread.reading === "read" && isOver)) {
      thread.sought = null;
      this.#hooks.onFound(key);
      this.#hooks.onChange();
    } else if (thread.reading === "read") {
      sought.pagesLeft -= 1;
      this.readOlder(thread);
    }
  }

  /** Reads the newest page of `thread` and the text so far of its live runs. */
  async reread(thread) {
    if (thread.isNew) return;
    if (thread.reading === "loading") {
      thread.readAgain = true;
      return;
    }
    thread.reading = "loading";
    thread.readAgain = false;
    this.#retries.cancel();
    this.#hooks.onChange();
    const messageMark = thread.mark();
    const runMark = this.#live.runs.mark();
    try {
      const page = await readMessages(thread.conversation);
      thread.merge(page.messages, page.before, messageMark);
      const runs = page.runs ?? [];
      this.#hooks.onRuns(this.#live.runs.settle(thread.conversation, runs, runMark));
      this.#settle(thread);
    } catch (error) {
      thread.isNew = isMissing(error) && this.#hooks.isUnsent(thread);
      this.#settle(thread, thread.isNew ? null : error, () => this.reread(thread));
    }
    this.#goOn(thread);
  }

  /** Reads the page before the oldest message held. */
  async readOlder(thread) {
    if (thread.before === null || thread.reading === "loading") return;
    thread.reading = "loading";
    this.#retries.cancel();
    try {
      const page = await readMessages(thread.conversation, thread.before);
      thread.prepend(page.messages, page.before);
      this.#settle(thread);
    } catch (error) {
      this.#settle(thread, error, () => this.readOlder(thread));
    }
    this.#goOn(thread);
  }

  #goOn(thread) {
    if (thread.readAgain) this.reread(thread);
    this.#seekOn(thread);
    this.#hooks.onChange();
  }

  /** A read of `thread` ended; what failed is done `again`, while the thread is the open one. */
  #settle(thread, fault = null, again = null) {
    thread.settle(fault);
    if (!this.#hooks.isOpen(thread)) return;
    if (fault === null) this.#retries.end();
    else this.#retries.plan(again, fault);
  }
}
