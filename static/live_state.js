/**
 * Where this client stands in what its server tells: frames in, what is to be done out. Pure: no
 * network, no page.
 *
 * Two cursors: `epoch` and `seq` are the place in the user's lasting events, the same for all that
 * is open of that user; an offset is the place in one reply.
 */

import { isExact } from "./digest.js";
import { Runs } from "./runs.js";

/** So many unfinished replies are told after a break; of further ones it is asked later. */
const MOST_RUNS_TOLD = 64;
const LONGEST_ID = 64;
/** Of so many deleted conversations late words are known for what they are. */
const MOST_DELETED = 500;

/**
 * What a frame came to: `isNews` unless it told what was known already; `isLost`, events before it
 * never came: the connection is of no use, a new one resumes; `isReset`, what happened meanwhile is
 * read over HTTP; `send`, the frames to answer with; `ended`, the run that `run.done` ended, as it
 * was held; `lost`, a run that the server does not know; `askLater`, a run of which to ask later.
 */
const NOTHING = {
  isNews: true,
  isLost: false,
  isReset: false,
  send: [],
  ended: null,
  lost: null,
  askLater: null,
};

export class LiveState {
  /** {epoch, seq} of the last lasting event, or null before the first welcome. */
  #cursor = null;
  /** The runs whose missing text was asked for, by the id of the question. */
  #asked = new Map();
  #deleted = new Set();
  runs = new Runs();
  /** How many replies did not fit the length and digest that came with them. */
  mismatches = 0;

  get cursor() {
    return this.#cursor;
  }

  /** What a new connection begins with: the fields of `hello` that say what is held. */
  hello() {
    this.#asked.clear();
    const runs = this.runs.all();
    for (const run of runs) run.isAsked = false;
    const points = runs.slice(0, MOST_RUNS_TOLD).map((run) => {
      const { offset } = this.attach(run);
      return { run: run.id, offset };
    });
    const resume = this.#cursor === null ? {} : { resume: { ...this.#cursor } };
    return points.length === 0 ? resume : { ...resume, runs: points };
  }

  /** Connected. Says whether all that was missed follows; if not, it is read over HTTP. */
  welcome({ resumed, epoch, seq }) {
    if (resumed && this.#cursor !== null) return true;
    this.#cursor = { epoch, seq };
    return false;
  }

  /** The frames that ask for what is missing of those of `runs` that go on and were not asked for. */
  attachAll(runs = this.runs.all()) {
    return runs
      .filter((run) => this.runs.has(run.id) && !run.isAsked)
      .map((run) => this.attach(run));
  }

  /** The frame that asks for `run` from what is held of it on. */
  attach(run) {
    // The server answers to the runs of a hello as if this had been asked.
    const id = `attach-${run.id}`.slice(0, LONGEST_ID);
    run.isAsked = true;
    this.#asked.set(id, run);
    return { type: "attach", id, run: run.id, offset: run.length };
  }

  /** Takes one frame after the welcome; what it came to, see above. */
  take(frame) {
    if (frame.type === "reset") {
      this.#cursor = { epoch: frame.epoch, seq: frame.seq };
      return { ...NOTHING, isReset: true, send: this.attachAll() };
    }
    // An event that is told once more, in answer to a question, comes without a place.
    if (frame.seq !== undefined && this.#cursor !== null) {
      const { epoch, seq } = this.#cursor;
      if (frame.seq <= seq) return { ...NOTHING, isNews: false };
      if (frame.seq > seq + 1) return { ...NOTHING, isNews: false, isLost: true };
      this.#cursor = { epoch, seq: frame.seq };
    }
    const changes = this.#apply(frame);
    const conversation = frame.conversation?.id ?? frame.conversation;
    // A late word of a conversation does not bring it back.
    const isLate = frame.type !== "conversation.deleted" && this.#deleted.has(conversation);
    return { ...NOTHING, ...changes, ...(isLate ? { isNews: false } : {}) };
  }

  /** Whether the text of a `run.done` is the one that it announces; counted if not. */
  async verify({ message, chars, sha256 }) {
    const holds = await isExact(message.text, { chars, sha256 });
    if (!holds) this.mismatches += 1;
    return holds;
  }

  #apply(frame) {
    switch (frame.type) {
      case "ok":
      case "error":
        return this.#answered(frame);
      case "accepted":
        return this.#accepted(frame);
      case "run.started":
        return this.#started(frame);
      case "run.memories":
        this.runs.begin(frame.run)?.remember(frame.items);
        return {};
      case "run.delta":
        return this.#grown(frame);
      case "run.done":
        return { ended: this.runs.end(frame.run) ?? null };
      case "message.deleted":
        this.runs.forgetMemory(frame.message.id);
        return {};
      case "conversation.deleted":
        return this.#gone(frame.conversation.id);
      default:
        return {};
    }
  }

  #gone(conversation) {
    this.#deleted.add(conversation);
    if (this.#deleted.size > MOST_DELETED) {
      this.#deleted.delete(this.#deleted.values().next().value);
    }
    return {};
  }

  /** To an `attach`; what answers something else is left to others. */
  #answered({ type, code, retryable, re }) {
    const run = this.#asked.get(re);
    if (run === undefined) return {};
    this.#asked.delete(re);
    run.isAsked = false;
    if (type === "ok") return { isNews: false };
    if (retryable) return { isNews: false, askLater: run };
    this.runs.drop(run.id);
    return { isNews: false, lost: code === "unknown_run" ? run : null };
  }

  #accepted({ run: id, conversation, message, duplicate }) {
    const run = this.runs.begin(id, { conversation, question: message });
    // A message that was stored before: its reply may be finished, or half of it told.
    return duplicate && run !== null ? { send: this.attachAll([run]) } : {};
  }

  #started({ run: id, conversation, message, model }) {
    const run = this.runs.begin(id, { conversation, question: message, model });
    if (run === null) return { isNews: false };
    run.start();
    return {};
  }

  #grown({ run: id, offset, text }) {
    const run = this.runs.begin(id);
    if (run === null) return { isNews: false };
    const isGap = run.applyDelta(offset, text) === "gap";
    return isGap ? { send: this.attachAll([run]) } : {};
  }
}
