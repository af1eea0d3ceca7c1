/** The WebSocket: opened, watched, and opened again until the server says not to. */

import { wordsFor, wordsForClose } from "./faults.js";

const SUBPROTOCOL = "tandem.v1";
const WELCOME_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 5_000;
const SHORTEST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 10_000;
const SILENCE_GRACE_MS = 10_000;
/** A connection that lasted this long was a good one: the next pause is short again. */
const STEADY_AFTER_MS = 5_000;
const NOT_AUTHENTICATED = 4501;
const TOKEN_EXPIRED = 4401;
/** After these the server is there, or will be in a moment: nothing speaks for a pause. */
const COME_BACK_AT_ONCE = new Set([4400, TOKEN_EXPIRED]);

/** How long to wait before attempt number `attempt` (from 0); half of it is chance. */
export function pauseMs(attempt, chance = Math.random()) {
  const longest = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** attempt);
  return Math.max(SHORTEST_PAUSE_MS, longest * (0.5 + chance / 2));
}

/** The frame in `data`; null when it cannot be read, which costs only itself. */
function frameIn(data) {
  try {
    const frame = JSON.parse(data);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/**
 * Calls `onState({name, reason, isStranger})` with name "connecting", "online", "reconnecting" or
 * "stopped" (why in words, and whether the server does not know the session), `hello()` for what
 * `hello` is to say besides, `onWelcome(frame)` once per connection before its other frames, and
 * `onFrame(frame)`.
 */
export class Connection {
  #hooks;
  #socket = null;
  #state = { name: "connecting", reason: "", isStranger: false };
  #session = null;
  #sessionRenewed = false;
  #attempt = 0;
  #opening = 0;
  #everOnline = false;
  #welcomedAt = 0;
  #silenceMs = WELCOME_WITHIN_MS;
  /** Until when the server asked to be left alone. */
  #notBeforeMs = 0;
  #pauseTimer = null;
  #silenceTimer = null;

  constructor({ openSession, hello, onState, onWelcome, onFrame }) {
    this.#hooks = { openSession, hello, onState, onWelcome, onFrame };
    window.addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.retryNow();
    });
  }

  get isOnline() {
    return this.#state.name === "online";
  }

  /** Connects, also after the server had ended the connection for good. */
  start() {
    this.#sessionRenewed = false;
    this.#attempt = 0;
    this.#open();
  }

  /** Sends a frame; says whether there was a connection to send it on. */
  send(frame) {
    if (!this.isOnline) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Leaves this connection for a new one: what it told has a hole that a new one fills. */
  renew() {
    const left = this.#socket;
    this.#closed(null);
    left?.close();
  }

  /** Something changed outside: do not wait for the pause to end, or for the silence to be noticed. */
  retryNow() {
    if (this.isOnline) {
      // Timers stand still in a sleeping tab or machine: ask whether anybody is there.
      this.send({ type: "ping" });
      this.#watch(Math.min(ANSWER_WITHIN_MS, this.#silenceMs));
    } else if (this.#pauseTimer !== null && Date.now() >= this.#notBeforeMs) {
      this.#open();
    }
  }

  async #open() {
    this.#opening += 1;
    const opening = this.#opening;
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = null;
    this.#enter(this.#everOnline ? "reconnecting" : "connecting");
    if (this.#session === null) {
      try {
        const session = await this.#hooks.openSession();
        if (opening === this.#opening) this.#session = session;
      } catch (error) {
        if (opening !== this.#opening) return;
        if (error.retryable) this.#pause();
        else this.#stop(wordsFor(error), { isStranger: error.code === "not_authenticated" });
        return;
      }
    }
    if (opening === this.#opening) this.#dial();
  }

  #dial() {
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      const hello = { type: "hello", v: 1, client: "web", ...this.#hooks.hello() };
      socket.send(JSON.stringify(hello));
    });
    socket.addEventListener("message", (event) => {
      if (socket === this.#socket) this.#take(event.data);
    });
    socket.addEventListener("close", (event) => {
      if (socket === this.#socket) this.#closed(event.code);
    });
    this.#watch(WELCOME_WITHIN_MS);
  }

  #take(data) {
    const frame = frameIn(data);
    if (frame?.type === "welcome") this.#welcome(frame);
    this.#watch(this.#silenceMs);
    if (frame === null) return;
    // An error that answers nothing is why the connection ends.
    if (frame.type === "error" && !frame.re && !frame.run) {
      this.#notBeforeMs = Date.now() + (frame.retry_after_ms ?? 0);
    }
    if (frame.type === "ping") this.send({ type: "pong" });
    else if (frame.type === "welcome") this.#hooks.onWelcome(frame);
    else this.#hooks.onFrame(frame);
  }

  #welcome(frame) {
    this.#notBeforeMs = 0;
    this.#silenceMs = (frame.heartbeat_s ?? 25) * 1000 + SILENCE_GRACE_MS;
    this.#welcomedAt = Date.now();
    this.#sessionRenewed = false;
    this.#everOnline = true;
    this.#enter("online");
  }

  /** Gives the connection up unless a frame comes within `forMs`. */
  #watch(forMs) {
    clearTimeout(this.#silenceTimer);
    const watched = this.#socket;
    this.#silenceTimer = setTimeout(() => {
      if (watched !== this.#socket) return;
      // A dead line does not answer the closing handshake either: it is not waited for.
      this.#closed(null);
      watched.close();
    }, forMs);
  }

  #closed(code) {
    const wasOnline = this.isOnline;
    this.#socket = null;
    clearTimeout(this.#silenceTimer);
    if (code === TOKEN_EXPIRED) this.#session = null;
    if (code === NOT_AUTHENTICATED && !this.#sessionRenewed) {
      this.#sessionRenewed = true;
      this.#session = null;
      this.#open();
    } else if (code >= 4500 && code <= 4599) {
      this.#session = null;
      this.#stop(wordsForClose(code), { isStranger: false });
    } else {
      const wasSteady = wasOnline && Date.now() - this.#welcomedAt > STEADY_AFTER_MS;
      if (wasSteady) this.#attempt = 0;
      const isAtOnce = wasOnline && this.#attempt === 0 && COME_BACK_AT_ONCE.has(code);
      this.#pause({ isAtOnce });
    }
  }

  #pause({ isAtOnce = false } = {}) {
    this.#enter(this.#everOnline ? "reconnecting" : "connecting");
    const forMs = Math.max(isAtOnce ? 0 : pauseMs(this.#attempt), this.#notBeforeMs - Date.now());
    this.#pauseTimer = setTimeout(() => this.#open(), forMs);
    this.#attempt += 1;
  }

  #stop(reason, { isStranger }) {
    this.#state = { name: "stopped", reason, isStranger };
    this.#hooks.onState(this.#state);
  }

  #enter(name) {
    if (this.#state.name === name) return;
    this.#state = { name, reason: "", isStranger: false };
    this.#hooks.onState(this.#state);
  }
}
