/** What the page knows: threads, live runs, the outbox; and what each frame changes in it. */

import { chooseHead } from "./api.js";
import { lineOf } from "./line.js";
import { LiveState } from "./live_state.js";
import { Outbox } from "./outbox.js";
import { Reader } from "./reader.js";
import { questionOf, Thread } from "./thread.js";
import { newUlid } from "./ulid.js";

const MOST_THREADS = 20;
const ASK_LATER_MS = 1_000;

/**
 * Hooks: `send(frame)`; `onChange()` after every change that can be seen; `onReply(message)` for a
 * reply of the open conversation that is finished; `onTouched({id, text, timestamp})` when a
 * conversation goes on; `onUpdated(conversation)` as the server tells of one; `onDeleted(id)`;
 * `onBehind()` when something was missed, so that lists are to be read; `onLost()` when the
 * connection is of no use any more; `onFound(key)` before the change that shows a sought message
 * (null: it is not there); `onLimited(forMs)`; `onFault(error)` for what belongs to no message.
 */
export class Chat {
  #hooks;
  #threads = new Map();
  /** What is held of what the server tells. */
  live = new LiveState();
  #reader;
  #handlers;

  constructor(hooks) {
    this.#hooks = hooks;
    this.outbox = new Outbox({ send: hooks.send, onChange: () => hooks.onChange() });
    this.thread = null;
    this.#reader = new Reader(this.live, {
      isOpen: (thread) => thread === this.thread,
      isUnsent: (thread) => this.outbox.of(thread.conversation).length > 0,
      onFound: hooks.onFound,
      // What was remembered for a reply is told only to those who were there when it began.
      onRuns: (runs) => this.#ask(runs),
      onChange: () => hooks.onChange(),
    });
    this.#handlers = {
      accepted: (frame) => this.#accepted(frame),
      ok: ({ re }) => this.outbox.remove(re),
      error: (frame) => this.#refused(frame),
      "message.created": (frame) => this.#created(frame),
      "message.deleted": ({ message }) => this.#erased(message),
      "run.started": ({ run }) => this.#begun(run),
      "run.done": (frame, { ended }) => this.#done(frame, ended),
      "conversation.updated": ({ conversation }) => hooks.onUpdated(conversation),
      "conversation.deleted": ({ conversation }) => this.#deleted(conversation.id),
    };
  }

  /** Shows a conversation; without an id, a new one that the server learns of with its first message. */
  open(conversation = null) {
    const id = conversation ?? newUlid();
    if (this.thread !== null) this.#reader.leave(this.thread);
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
    this.#reader.seek(this.thread, id);
  }

  /** Reads the newest page of the open conversation and the text so far of its live runs. */
  reread() {
    this.#reader.reread(this.thread);
  }

  /** Reads the page before the oldest message held. */
  readOlder() {
    this.#reader.readOlder(this.thread);
  }

  send(text) {
    this.#command({ type: "send", text });
  }

  /** Says something else in the place of the own message `id`. */
  edit(id, text) {
    this.#command({ type: "edit", message: id, text });
  }

  /** Asks for another reply beside `reply`. */
  regenerate(reply) {
    this.#command({ type: "regenerate", message: questionOf(reply) ?? reply.id });
  }

  #command(command) {
    this.outbox.add({ ...command, conversation: this.thread.conversation });
  }

  /** Shows the branch that message `id` is on, here and everywhere; says whether it did. */
  async choose(id) {
    try {
      this.#hooks.onUpdated(await chooseHead(this.thread.conversation, id));
      return true;
    } catch (error) {
      this.#hooks.onFault(error);
      return false;
    }
  }

  /** What is being typed: its memories are looked up before it is sent. */
  draft(text) {
    this.#hooks.send({ type: "draft", text, conversation: this.thread.conversation });
  }

  /** Asks once more for the reply to an own message that never got one; it is not said again. */
  askAgain({ client_id: id, text }) {
    this.#command({ type: "send", id, text, sent: true });
  }

  /** The replies being made in the open conversation, the one being written first. */
  liveRuns() {
    return this.live.runs.of(this.thread.conversation);
  }

  isLive(conversation) {
    return this.live.runs.of(conversation).length > 0;
  }

  /** Stops the reply that is being written. */
  stop() {
    const run = this.liveRuns().find((candidate) => !candidate.stopping);
    if (run === undefined) return;
    run.stopping = true;
    this.#command({ type: "stop", run: run.id });
  }

  /** What a connection begins with, see LiveState. */
  hello() {
    return this.live.hello();
  }

  /** Connected: what was missed follows, or it is read over HTTP; says which. */
  connected(welcome) {
    const isResumed = this.live.welcome(welcome);
    this.outbox.connected(welcome.user);
    this.#ask(this.live.runs.all());
    const { reading } = this.thread;
    // A conversation that was opened meanwhile was never read.
    if (!isResumed || (reading !== "read" && reading !== "loading")) this.reread();
    return isResumed;
  }

  /** Takes a frame; what it is not about is left to others. */
  handle(frame) {
    const outcome = this.live.take(frame);
    for (const answer of outcome.send) this.#hooks.send(answer);
    if (outcome.isLost) this.#hooks.onLost();
    if (outcome.isReset) {
      this.#hooks.onBehind();
      this.reread();
    }
    if (outcome.lost !== null) this.#lost(outcome.lost);
    if (outcome.askLater !== null) {
      setTimeout(() => this.#ask([outcome.askLater]), frame.retry_after_ms ?? ASK_LATER_MS);
    }
    if (outcome.isNews) this.#handlers[frame.type]?.(frame, outcome);
    this.#hooks.onChange();
  }

  #ask(runs) {
    for (const frame of this.live.attachAll(runs)) this.#hooks.send(frame);
  }

  /** The server knows nothing of a run that it had begun. */
  #lost(run) {
    const isAskedAgain = this.outbox.replyLost(run.id);
    if (!isAskedAgain && run.conversation === this.thread.conversation) this.reread();
  }

  /** Everything to show of the open conversation, in reading order. */
  items() {
    const { thread } = this;
    return lineOf(thread, this.liveRuns(), this.outbox.of(thread.conversation));
  }

  #accepted({ re, message, conversation, run, duplicate }) {
    const entry = this.outbox.accepted(re, run);
    const thread = this.#threads.get(conversation);
    thread?.begin();
    const isHeld = thread?.has(message);
    if (entry !== undefined && "text" in entry) this.#said(entry, message, conversation);
    this.#begun(run);
    // A message that was stored long ago may stand anywhere.
    if (duplicate && thread === this.thread && !isHeld) this.reread();
  }

  /** An own message is stored; `message.created` says more about it. */
  #said({ id, text, message: edited }, message, conversation) {
    const timestamp = Date.now() / 1000;
    const thread = this.#threads.get(conversation);
    if (thread !== undefined && !thread.has(message)) {
      const { parent } = thread.find(edited) ?? {};
      thread.add({ id: message, client_id: id, parent, role: "user", text, timestamp });
    }
    this.#hooks.onTouched({ id: conversation, text, timestamp });
  }

  #refused(frame) {
    // What ended a reply comes again with run.done, and what ends a connection as its close code.
    if (frame.run || !frame.re) return;
    if (frame.code === "rate_limited") this.#hooks.onLimited(frame.retry_after_ms ?? 1000);
    const entry = this.outbox.get(frame.re);
    if (entry?.type === "stop") this.#notStopped(entry, frame);
    else if (!this.outbox.rejected(frame.re, frame)) this.#hooks.onFault(frame);
  }

  #notStopped({ id, run }, error) {
    this.outbox.remove(id);
    for (const live of this.liveRuns()) if (live.id === run) live.stopping = false;
    if (error.code === "unknown_run") this.reread();
    else this.#hooks.onFault(error);
  }

  #created({ conversation, message }) {
    // A reply, which is stored under the id of its run, is announced by run.done.
    if (this.live.runs.has(message.id)) return;
    const thread = this.#threads.get(conversation);
    thread?.begin();
    thread?.add(message);
    this.#hooks.onTouched({ id: conversation, text: message.text, timestamp: message.timestamp });
  }

  /** A message is erased: its words go wherever they are shown, and are not sent any more. */
  #erased(message) {
    for (const thread of this.#threads.values()) {
      const { client_id: clientId } = thread.find(message.id) ?? {};
      if (clientId !== undefined) this.outbox.forget(clientId);
      thread.redact(message);
      // A read that began before may bring them back.
      thread.readAgain ||= thread.reading === "loading";
    }
  }

  /** A run began: what its thread holds by then comes before it. */
  #begun(id) {
    const run = this.live.runs.get(id);
    const thread = this.#threads.get(run?.conversation);
    if (thread !== undefined) run.since ??= thread.mark();
  }

  #done(frame, ended) {
    this.outbox.replied(frame.run);
    const thread = this.#threads.get(frame.conversation);
    if (thread === undefined) return;
    const isAgain = thread.has(frame.message.id);
    const known = ended === null ? {} : { memories: ended.memories ?? [] };
    const told = { error: frame.error, finishReason: frame.finish_reason, stored: frame.stored };
    const reply = { ...known, ...(isAgain ? {} : told), ...frame.message };
    if (this.#isAside(thread, reply, ended)) this.#leftAside(thread, frame);
    else thread.add(reply, `run:${frame.run}`);
    if (thread === this.thread && !isAgain) this.#hooks.onReply(reply);
    this.#verify(frame, thread);
  }

  /** Whether another reply stays in its place: `reply` is empty, or something was said meanwhile. */
  #isAside(thread, reply, ended) {
    if (!thread.hasBeside(reply)) return false;
    return reply.text === "" || ended?.since === undefined || thread.hasGrown(ended.since);
  }

  /** What stands beside it is shown further on; the history knows which. */
  #leftAside(thread, { error }) {
    if (thread !== this.thread) return;
    this.reread();
    if (error) this.#hooks.onFault(error);
  }

  /** A text that is not what was announced came to harm on its way: the stored one is read. */
  async #verify(frame, thread) {
    if ((await this.live.verify(frame)) || thread !== this.thread) return;
    this.reread();
  }

  #deleted(conversation) {
    this.#threads.delete(conversation);
    this.outbox.removeAll(conversation);
    this.#hooks.onDeleted(conversation);
  }
}
