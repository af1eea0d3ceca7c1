/** What the page knows: threads, live runs, the outbox; and what each frame changes in it. */

import { readMessages } from "./api.js";
import { Outbox } from "./outbox.js";
import { Retries } from "./retries.js";
import { Runs } from "./runs.js";
import { isMissing, questionOf, Thread } from "./thread.js";
import { newUlid } from "./ulid.js";

/** A read that came too early for a gap is repeated after this long. */
const GAP_PAUSE_MS = 300;
const MOST_THREADS = 20;
/** A message that is sought is given up after this many older pages. */
const MOST_PAGES_BACK = 10;

/**
 * Hooks: `send(frame)`; `onChange()` after every change that can be seen; `onReply(message)` for a
 * reply of the open conversation that is finished; `onTouched({id, text, timestamp})` when a
 * conversation goes on; `onFound(key)` before the change that shows a sought message (null: it is
 * not there); `onLimited(forMs)`; `onFault(error)` for what belongs to no message.
 */
export class Chat {
  #hooks;
  #threads = new Map();
  #runs = new Runs();
  #retries = new Retries();
  #handlers;

  constructor(hooks) {
    this.#hooks = hooks;
    this.outbox = new Outbox({ send: hooks.send, onChange: () => hooks.onChange() });
    this.thread = null;
    this.#handlers = {
      accepted: (frame) => this.#accepted(frame),
      error: (frame) => this.#refused(frame),
      "message.created": (frame) => this.#created(frame),
      "run.started": (frame) => this.#started(frame),
      "run.memories": (frame) => this.#remembered(frame),
      "run.delta": (frame) => this.#grown(frame),
      "run.done": (frame) => this.#done(frame),
      reset: () => this.reread(),
    };
  }

  /** Shows a conversation; without an id, a new one that the server learns of with its first message. */
  open(conversation = null) {
    const id = conversation ?? newUlid();
    if (this.thread !== null) this.thread.sought = null;
    this.#retries.end();
    this.thread = this.#threads.get(id) ?? new Thread(id);
    this.thread.isNew ||= conversation === null;
    // Last in, last out: the map keeps the order of insertion.
    this.#threads.delete(id);
    this.#threads.set(id, this.thread);
    if (this.#threads.size > MOST_THREADS) this.#threads.delete(this.#threads.keys().next().value);
    this.#hooks.onChange();
  }

  /** Looks for message `id` of the open conversation; the read that follows goes on with it. */
  seek(id) {
    this.thread.sought = { id, pagesLeft: MOST_PAGES_BACK };
    this.#seekOn(this.thread);
  }

  /** Page by page, since a conversation is held without gaps. */
  #seekOn(thread) {
    const { sought } = thread;
    if (sought === null || thread !== this.thread) return;
    const key = thread.keyOf(sought.id);
    const isOver = thread.before === null || sought.pagesLeft === 0;
    if (key !== null || (thread.reading === "read" && isOver)) {
      thread.sought = null;
      this.#hooks.onFound(key);
      this.#hooks.onChange();
    } else if (thread.reading === "read") {
      sought.pagesLeft -= 1;
      this.readOlder();
    }
  }

  forget(conversation) {
    this.#threads.delete(conversation);
  }

  send(text) {
    this.outbox.add(this.thread.conversation, text);
  }

  /** What is being typed: its memories are looked up before it is sent. */
  draft(text) {
    this.#hooks.send({ type: "draft", text, conversation: this.thread.conversation });
  }

  /** Asks once more for the reply to an own message that never got one; it is not said again. */
  askAgain({ client_id: id, text }) {
    const { conversation } = this.thread;
    this.#hooks.send({ type: "send", id, conversation, text, retry: true });
  }

  /** The replies being made in the open conversation, the one being written first. */
  liveRuns() {
    return this.#runs.of(this.thread.conversation);
  }

  isLive(conversation) {
    return this.#runs.of(conversation).length > 0;
  }

  /** Stops the reply that is being written. */
  stop() {
    const run = this.liveRuns().find((candidate) => !candidate.stopping);
    if (run === undefined) return;
    run.stopping = this.#hooks.send({ type: "stop", id: newUlid(), run: run.id });
    this.#hooks.onChange();
  }

  /** Connected, or connected again: whatever happened meanwhile is read over HTTP. */
  connected(user) {
    this.#runs.keepOnly(this.thread.conversation);
    for (const run of this.liveRuns()) run.stopping = false;
    this.outbox.connected(user);
    this.reread();
  }

  handle(frame) {
    this.#handlers[frame.type]?.(frame);
    this.#hooks.onChange();
  }

  /** Reads the newest page of the open conversation and the text so far of its live runs. */
  async reread() {
    const thread = this.thread;
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
    const runMark = this.#runs.mark();
    try {
      const page = await readMessages(thread.conversation);
      thread.merge(page.messages, page.before, messageMark);
      this.#runs.settle(thread.conversation, page.runs ?? [], runMark);
      this.#settle(thread);
    } catch (error) {
      thread.isNew = this.#isUnsent(thread, error);
      this.#settle(thread, thread.isNew ? null : error, () => this.reread());
    }
    if (thread.readAgain) this.reread();
    else if (this.#runs.of(thread.conversation).some((run) => run.hasGap)) {
      setTimeout(() => this.reread(), GAP_PAUSE_MS);
    }
    this.#seekOn(thread);
    this.#hooks.onChange();
  }

  /** Reads the page before the oldest message held. */
  async readOlder() {
    const thread = this.thread;
    if (thread.before === null || thread.reading === "loading") return;
    thread.reading = "loading";
    this.#retries.cancel();
    try {
      const page = await readMessages(thread.conversation, thread.before);
      thread.prepend(page.messages, page.before);
      this.#settle(thread);
    } catch (error) {
      this.#settle(thread, error, () => this.readOlder());
    }
    if (thread.readAgain) this.reread();
    this.#seekOn(thread);
    this.#hooks.onChange();
  }

  /** A read of `thread` ended; what failed is done `again`, while the thread is the open one. */
  #settle(thread, fault = null, again = null) {
    thread.settle(fault);
    if (thread !== this.thread) return;
    if (fault === null) this.#retries.end();
    else this.#retries.plan(again, fault);
  }

  /** Whether the server cannot know the conversation, since its first message is still in here. */
  #isUnsent(thread, error) {
    return isMissing(error) && this.outbox.of(thread.conversation).length > 0;
  }

  /** Everything to show of the open conversation, in reading order. */
  items() {
    const { thread } = this;
    const growing = this.liveRuns().map((run) => ({
      key: `run:${run.id}`,
      role: "assistant",
      text: run.text,
      reply_to: run.question,
      memories: run.memories,
      live: true,
      stopping: run.stopping,
    }));
    const unsent = this.outbox
      .of(thread.conversation)
      .filter((entry) => !thread.hasClientId(entry.id))
      .map((entry) => ({
        key: `client:${entry.id}`,
        role: "user",
        text: entry.text,
        timestamp: entry.createdMs / 1000,
        entry: { ...entry },
      }));
    return [...thread.inReadingOrder(growing), ...unsent];
  }

  /** The text that a reply answers; null when it is not held. */
  questionText(reply) {
    const id = questionOf(reply);
    return this.thread.messages.find((message) => message.id === id)?.text ?? null;
  }

  #accepted({ re, message, conversation, run, duplicate }) {
    const entry = this.outbox.accepted(re);
    const thread = this.#threads.get(conversation);
    if (thread !== undefined) thread.isNew = false;
    const timestamp = Date.now() / 1000;
    if (entry !== undefined) {
      const { text } = entry;
      if (thread !== undefined && !thread.has(message)) {
        thread.add({ id: message, client_id: re, role: "user", text, timestamp });
      }
      this.#hooks.onTouched({ id: conversation, text, timestamp });
    }
    // A repeated message's run may be over: the server knows.
    if (duplicate) this.reread();
    else if (run) this.#runs.begin(run, { conversation, question: message });
  }

  #refused(frame) {
    // What ended a reply comes again with run.done, and what ends a connection as its close code.
    if (frame.run || !frame.re) return;
    if (frame.code === "rate_limited") this.#hooks.onLimited(frame.retry_after_ms ?? 1000);
    if (this.outbox.rejected(frame.re, frame)) return;
    for (const run of this.liveRuns()) run.stopping = false;
    if (frame.code === "unknown_run") this.reread();
    else this.#hooks.onFault(frame);
  }

  #created({ conversation, message }) {
    const run = this.#runs.answering(questionOf(message));
    // A reply is announced by run.done, which says more about it.
    if (run !== undefined) return;
    const thread = this.#threads.get(conversation);
    if (thread !== undefined) thread.isNew = false;
    thread?.add(message);
    this.#hooks.onTouched({ id: conversation, text: message.text, timestamp: message.timestamp });
  }

  #started({ run, conversation, message, model }) {
    this.#runs.begin(run, { conversation, question: message, model });
  }

  #remembered({ run, items }) {
    const held = this.#runs.begin(run);
    if (held !== null) held.memories = items;
  }

  #grown({ run, offset, text }) {
    const outcome = this.#runs.applyDelta(run, offset, text);
    if (outcome === "gap" && this.liveRuns().some((live) => live.id === run)) this.reread();
  }

  #done(frame) {
    const run = this.#runs.end(frame.run);
    const thread = this.#threads.get(frame.conversation);
    if (thread === undefined) return;
    const reply = {
      memories: run?.memories ?? [],
      error: frame.error,
      finishReason: frame.finish_reason,
      stored: frame.stored,
      ...frame.message,
    };
    thread.add(reply, `run:${frame.run}`);
    if (thread === this.thread) this.#hooks.onReply(reply);
  }
}
