/**
 * A server with its connection and one client's live state, moved by a list of steps: replies grow,
 * frames are lost, told twice or swapped, connections break, the order is lost. After each step what
 * the client shows of a reply is the beginning of it; in the end it is all of it. Throws otherwise.
 */

const CONVERSATION = "c";
/** Code points of one, two, three and four bytes, and some that join with their neighbours. */
const SIGNS = [..."aé€🎉👩‍🚀é 🏽"];

class Server {
  epoch = 1;
  events = [];
  runs = new Map();

  place(frame) {
    this.events.push({ ...frame, seq: this.events.length + 1 });
    return this.events.at(-1);
  }

  forget() {
    this.epoch += 1;
    this.events = [];
  }

  begin() {
    const id = `r${this.runs.size}`;
    this.runs.set(id, { id, points: [], isOver: false });
    return this.place({ type: "run.started", run: id, conversation: CONVERSATION, message: `q${id}` });
  }

  grow(run, count) {
    const offset = run.points.length;
    const fresh = Array.from({ length: count }, (_, n) => SIGNS[(offset + n) % SIGNS.length]);
    run.points.push(...fresh);
    return { type: "run.delta", run: run.id, offset, text: fresh.join("") };
  }

  end(run) {
    run.isOver = true;
    return this.place(this.done(run));
  }

  done({ id, points }) {
    const message = { id, role: "assistant", text: points.join("") };
    return { type: "run.done", run: id, conversation: CONVERSATION, message, chars: points.length };
  }

  attach({ id, run: name, offset }) {
    const run = this.runs.get(name);
    if (run === undefined) return [{ type: "error", re: id, code: "unknown_run", retryable: false }];
    if (run.isOver) return [{ type: "ok", re: id }, this.done(run)];
    const rest = run.points.slice(offset).join("");
    const deltas = rest === "" ? [] : [{ type: "run.delta", run: name, offset, text: rest }];
    return [{ type: "ok", re: id }, ...deltas];
  }
}

class World {
  #server = new Server();
  #live;
  #wire = [];
  #isConnected = false;
  #held = new Map();
  #taken = new Set();

  constructor(LiveState) {
    this.#live = new LiveState();
    this.#connect();
    this.#send(this.#server.begin());
  }

  step([kind, which, count]) {
    const open = [...this.#server.runs.values()].filter((run) => !run.isOver);
    const run = open[which % Math.max(1, open.length)];
    const at = which % Math.max(1, this.#wire.length);
    if (kind === "begin") this.#send(this.#server.begin());
    else if (kind === "grow" && run) this.#send(this.#server.grow(run, count));
    else if (kind === "end" && run) this.#send(this.#server.end(run));
    else if (kind === "deliver") this.#deliver(count);
    else if (kind === "lose") this.#lose(at);
    else if (kind === "repeat") this.#repeat(at);
    else if (kind === "swap") this.#swap(at);
    else if (kind === "cut") this.#cut();
    else if (kind === "connect" && !this.#isConnected) this.#connect();
    else if (kind === "reset") this.#reset();
    this.#check();
  }

  /** Everything ends well, and everything that was lost by then shows. */
  settle() {
    if (!this.#isConnected) this.#connect();
    for (const run of this.#server.runs.values()) {
      if (!run.isOver) this.#send(this.#server.end(run));
    }
    this.#send(this.#server.place({ type: "conversation.updated", conversation: { id: "other" } }));
    for (let round = 0; round < 10; round += 1) {
      this.#deliver(Infinity);
      this.#check();
      if (!this.#isConnected) this.#connect();
    }
    for (const { id, points } of this.#server.runs.values()) {
      if (this.#held.get(id) !== points.join("")) throw new Error(`${id} is ${this.#held.get(id)}`);
    }
    if (this.#live.runs.all().length > 0) throw new Error("a reply does not end");
    return this.#live.mismatches;
  }

  #send(...frames) {
    if (this.#isConnected) this.#wire.push(...frames);
  }

  /** What goes from process to process may be lost; that an order is lost is known in each. */
  #lose(at) {
    if (this.#wire[at]?.type !== "reset") this.#wire.splice(at, 1);
  }

  #repeat(at) {
    const frame = this.#wire[at];
    if (frame !== undefined && frame.type !== "reset") this.#wire.splice(at, 0, frame);
  }

  #swap(at) {
    const [one, other] = this.#wire.slice(at, at + 2);
    // What has a place in the order keeps it; pieces of replies may overtake each other.
    if (one?.type !== "run.delta" || other?.type !== "run.delta") return;
    this.#wire.splice(at, 2, other, one);
  }

  #cut() {
    this.#isConnected = false;
    this.#wire = [];
  }

  #connect() {
    const { resume, runs = [] } = this.#live.hello();
    this.#isConnected = true;
    const { epoch, events } = this.#server;
    const isResumed = resume?.epoch === `e${epoch}`;
    const seq = events.length;
    const missed = isResumed ? events.slice(resume.seq) : [];
    const answers = runs.flatMap(({ run, offset }) =>
      this.#server.attach({ id: `attach-${run}`, run, offset }),
    );
    this.#wire = [...missed, ...answers];
    if (!this.#live.welcome({ resumed: isResumed, epoch: `e${epoch}`, seq })) this.#read();
  }

  #reset() {
    this.#server.forget();
    this.#send({ type: "reset", epoch: `e${this.#server.epoch}`, seq: 0 });
  }

  /** What the page does over HTTP: the ended replies, and the text so far of the others. */
  #read() {
    const all = [...this.#server.runs.values()];
    for (const run of all) if (run.isOver) this.#held.set(run.id, run.points.join(""));
    const live = all
      .filter((run) => !run.isOver)
      .map(({ id, points }) => ({ run: id, message: `q${id}`, text: points.join("") }));
    const fresh = this.#live.runs.settle(CONVERSATION, live, this.#live.runs.mark());
    this.#ask(this.#live.attachAll(fresh));
  }

  #ask(frames) {
    for (const frame of frames) this.#send(...this.#server.attach(frame));
  }

  #deliver(count) {
    for (let n = 0; n < count && this.#wire.length > 0; n += 1) this.#take(this.#wire.shift());
  }

  #take(frame) {
    const outcome = this.#live.take(frame);
    if (outcome.isNews && frame.seq !== undefined && frame.type !== "reset") {
      const place = `${this.#live.cursor.epoch}/${frame.seq}`;
      if (this.#taken.has(place)) throw new Error(`${place} was taken twice`);
      this.#taken.add(place);
    }
    if (outcome.isNews && frame.type === "run.done") {
      this.#held.set(frame.run, frame.message.text);
    }
    this.#ask(outcome.send);
    if (outcome.isReset) this.#read();
    if (outcome.isLost) this.#cut();
  }

  #check() {
    for (const run of this.#live.runs.all()) {
      const whole = this.#server.runs.get(run.id).points.join("");
      if (!whole.startsWith(run.text)) throw new Error(`${run.text} does not begin ${whole}`);
      if (run.length !== [...run.text].length) throw new Error("the length is wrong");
    }
  }
}

export async function live(steps) {
  const { LiveState } = await import(new URL("/live_state.js", location.href));
  const world = new World(LiveState);
  for (const step of steps) world.step(step);
  return world.settle();
}
