/** How the connection is: a dot and a word in the corner, a line above the box when it is gone. */

const WORDS = {
  connecting: "Connecting…",
  online: "Connected",
  reconnecting: "Reconnecting…",
  stopped: "Not connected",
};

export class Status {
  #root;
  #corner;
  #line;
  #retry;
  #isStranger = false;

  /** `elements`: {root, corner, line, retry}; `onRetry({isStranger})` when it is to be tried again. */
  constructor({ root, corner, line, retry }, onRetry) {
    this.#root = root;
    this.#corner = corner;
    this.#line = line;
    this.#retry = retry;
    retry.addEventListener("click", () => onRetry({ isStranger: this.#isStranger }));
    window.addEventListener("offline", () => this.#describe());
    window.addEventListener("online", () => this.#describe());
  }

  /** `state` as Connection tells it. */
  show({ name, reason, isStranger }) {
    this.#isStranger = isStranger;
    this.#retry.textContent = isStranger ? "Start a new session" : "Try again";
    this.#root.dataset.connection = name;
    this.#corner.textContent = WORDS[name];
    this.#retry.hidden = name !== "stopped";
    this.#line.dataset.reason = reason;
    this.#describe();
  }

  #describe() {
    const name = this.#root.dataset.connection;
    const lost = navigator.onLine
      ? "Connection lost. Reconnecting…"
      : "You are offline. What you write is kept and sent later.";
    const lines = { online: "", stopped: this.#line.dataset.reason, reconnecting: lost };
    this.#line.textContent = lines[name] ?? (navigator.onLine ? WORDS[name] : lost);
  }
}
