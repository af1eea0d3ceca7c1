/**
 * Takes the steps of one conformance vector with the page's own modules, without a page around them:
 * `Chat` with its outbox and its live state. Only the socket, the clock and the answers over HTTP are
 * made up. Returns {sent: the frames after each step, left: where it left, state}.
 */

export async function drive({ steps }) {
  const { Chat } = await import(new URL("/chat.js", location.href));
  const frames = steps.map((step) => step.frame?.conversation ?? step.do?.conversation);
  const driver = new Driver(Chat, frames.find((id) => typeof id === "string") ?? "c1");
  const taken = [];
  for (const step of steps) taken.push(await driver.step(Object.entries(step)[0]));
  driver.end();
  return { taken, state: driver.state() };
}

const AN_ANSWER_IS_LATE_MS = 15_000;
const { setTimeout: realSetTimeout } = window;

/** Time that passes when it is told to. */
class Clock {
  #nowMs = 1_795_190_400_000;
  #timers = new Map();
  #number = 0;

  /** Returns what puts the real one back. */
  install() {
    const { setTimeout, clearTimeout } = window;
    const { now } = Date;
    Date.now = () => this.#nowMs;
    window.setTimeout = (job, forMs = 0) => {
      this.#number += 1;
      this.#timers.set(this.#number, { job, atMs: this.#nowMs + forMs });
      return this.#number;
    };
    window.clearTimeout = (number) => this.#timers.delete(number);
    return () => {
      Object.assign(window, { setTimeout, clearTimeout });
      Date.now = now;
    };
  }

  /** What waits to be repeated is repeated; nothing waits so long that an answer counts as late. */
  pass() {
    this.#nowMs += AN_ANSWER_IS_LATE_MS - 1;
    for (const [number, { job, atMs }] of [...this.#timers]) {
      if (atMs > this.#nowMs) continue;
      this.#timers.delete(number);
      job();
    }
  }
}

class Driver {
  #chat;
  #clock = new Clock();
  #restoreClock;
  #isOnline = false;
  #sent = [];
  #hasLeft = false;
  #attach = null;
  #pending = [];
  #commands = [];
  #told = { messages: new Map(), conversations: new Map() };
  #runs = new Map();
  #freshStarts = 0;
  #refused = {};

  constructor(Chat, conversation) {
    localStorage.clear();
    this.#restoreClock = this.#clock.install();
    window.fetch = async () => ({ ok: true, json: async () => this.#page() });
    const nothing = () => {};
    this.#chat = new Chat({
      send: (frame) => this.#isOnline && this.#out(frame),
      onLost: () => this.#leave(),
      onUpdated: (told) => this.#told.conversations.set(told.id, told),
      onDeleted: (id) => this.#forget(id),
      onChange: nothing,
      onReply: nothing,
      onTouched: nothing,
      onBehind: nothing,
      onFound: nothing,
      onLimited: nothing,
      onFault: nothing,
    });
    this.#watch(this.#chat.live);
    this.#chat.open(conversation);
  }

  async step([kind, what]) {
    this.#sent = [];
    this.#hasLeft = false;
    if (kind === "open") this.#out({ type: "hello", v: 1, ...this.#chat.hello() });
    else if (kind === "frame") this.#take(what.re === "$attach" ? { ...what, re: this.#attach } : what);
    else if (kind === "do") this.#ask(what);
    else if (kind === "lost") this.#disconnect();
    else if (kind === "later") this.#clock.pass();
    else if (kind !== "sent" && kind !== "leaves") throw new Error(`unknown step ${kind}`);
    await new Promise((resolve) => realSetTimeout(resolve));
    await Promise.all(this.#pending);
    this.#look();
    return { sent: this.#sent, left: this.#hasLeft };
  }

  end() {
    this.#restoreClock();
  }

  state() {
    const { live, outbox } = this.#chat;
    const unanswered = this.#commands.filter((id) => outbox.get(id)?.error === null);
    return {
      cursor: live.cursor,
      fresh_starts: this.#freshStarts,
      conversations: Object.fromEntries(this.#told.conversations),
      messages: Object.fromEntries(this.#told.messages),
      runs: Object.fromEntries(this.#runs),
      unanswered,
      refused: this.#refused,
      mismatches: live.mismatches,
    };
  }

  #out(frame) {
    this.#sent.push(frame);
    if (frame.type === "attach") this.#attach = frame.id;
    return true;
  }

  #ask(command) {
    this.#commands.push(command.id);
    const { conversation } = this.#chat.thread;
    this.#chat.outbox.add({ conversation, ...command });
  }

  #take(frame) {
    if (frame.type === "error" && !frame.run && this.#chat.outbox.get(frame.re)) {
      this.#refused[frame.re] = frame.code;
    }
    if (frame.type !== "welcome") {
      this.#chat.handle(frame);
      return;
    }
    this.#isOnline = true;
    if (!this.#chat.connected(frame)) this.#startAfresh();
  }

  #leave() {
    this.#hasLeft = true;
    this.#disconnect();
  }

  #disconnect() {
    this.#isOnline = false;
    this.#chat.outbox.disconnected();
  }

  #startAfresh() {
    this.#freshStarts += 1;
    this.#told.messages.clear();
    this.#told.conversations.clear();
  }

  #forget(conversation) {
    this.#told.conversations.delete(conversation);
    for (const [id, message] of [...this.#told.messages]) {
      if (message.conversation === conversation) this.#told.messages.delete(id);
    }
  }

  /** What the live state lets through is what there is; its proofs are waited for. */
  #watch(live) {
    const { take, verify } = live;
    live.take = (frame) => {
      const outcome = take.call(live, frame);
      if (outcome.isReset) this.#startAfresh();
      if (outcome.lost !== null) this.#runs.get(outcome.lost.id).status = "lost";
      const { message, conversation, stored } = frame;
      if (outcome.isNews && message?.id) {
        const told = { stored: stored ?? true, ...message, conversation };
        this.#told.messages.set(message.id, told);
      }
      const isDone = frame.type === "run.done" && (outcome.isNews || outcome.ended !== null);
      if (isDone) this.#show(frame.run, message.text, { status: frame.status, conversation });
      return outcome;
    };
    live.verify = (frame) => {
      const verified = verify.call(live, frame);
      this.#pending.push(verified);
      return verified;
    };
  }

  /** What the page would show now. */
  #look() {
    for (const run of this.#chat.live.runs.all()) {
      this.#show(run.id, run.text, { status: "running", conversation: run.conversation });
    }
    for (const { id, text, status } of this.#chat.thread.messages) {
      if (status !== "deleted") continue;
      this.#told.messages.set(id, { ...this.#told.messages.get(id), text, status });
      if (this.#runs.has(id)) this.#runs.set(id, { ...this.#runs.get(id), text, status });
    }
  }

  /** What is shown of a run; was what had been shown the beginning of it, as far as both go? */
  #show(id, text, { status, conversation }) {
    const before = this.#runs.get(id) ?? { most: "", corrected: false };
    const isOver = status !== "running";
    const goesOn = text.startsWith(before.most) || (!isOver && before.most.startsWith(text));
    const corrected = before.corrected || !goesOn;
    const most = text.length > before.most.length ? text : before.most;
    this.#runs.set(id, { text, status, conversation, corrected, most });
  }

  #page() {
    const runs = this.#chat.liveRuns();
    const listed = runs.map(({ id, question, text }) => ({ run: id, message: question, text }));
    return { messages: [], before: null, runs: listed };
  }
}
