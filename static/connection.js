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

/** How long to wait before attempt number `attempt` (from 0); half of it is chance. */
export function pauseMs(attempt, chance = Math.random()) {
  const longest = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** attempt);
  return Math.max(SHORTEST_PAUSE_MS, longest * (0.5 + chance / 2));
}

/**
 * Calls `onState({name, reason, isStranger})` with name "connecting", "online", "reconnecting" or
 * "stopped" (why in words, and whether the server does not know the session), `onWelcome(frame)` once per connection before its other frames, and `onFrame(frame)`.
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
  #pauseTimer = null;
  #silenceTimer = null;

  constructor({ openSession, onState, onWelcome, onFrame }) {
    this.#hooks = { openSession, onState, onWelcome, onFrame };
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

  /** Something changed outside: do not wait for the pause to end, or for the silence to be noticed. */
  retryNow() {
    if (this.isOnline) {
      // Timers stand still in a sleeping tab or machine: ask whether anybody is there.
      this.send({ type: "ping" });
      this.#watch(Math.min(ANSWER_WITHIN_MS, this.#silenceMs));
    } else if (this.#pauseTimer !== null) {
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
      socket.send(JSON.stringify({ type: "hello", v: 1, client: "web" }));
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
    const frame = JSON.parse(data);
    if (frame.type === "welcome") this.#welcome(frame);
    this.#watch(this.#silenceMs);
    if (frame.type === "ping") this.send({ type: "pong" });
    else if (frame.type === "welcome") this.#hooks.onWelcome(frame);
    else this.#hooks.onFrame(frame);
  }

  #welcome(frame) {
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
      if (this.isOnline && Date.now() - this.#welcomedAt > STEADY_AFTER_MS) this.#attempt = 0;
      this.#pause();
    }
  }

  #pause() {
    this.#enter(this.#everOnline ? "reconnecting" : "connecting");
    this.#pauseTimer = setTimeout(() => this.#open(), pauseMs(this.#attempt));
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
