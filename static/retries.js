/** What failed is tried again by itself, after pauses that grow. */

const SHORTEST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;

export class Retries {
  #failures = 0;
  #timer = null;

  /** Calls `job` after the next pause, or after `error.retryAfterMs` where that is longer; never
   * for an error that would only come again. */
  plan(job, error) {
    this.cancel();
    if (!error.retryable) return;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(job, Math.max(pauseMs, error.retryAfterMs ?? 0));
  }

  /** What was planned is not done: it is done now, or by another. */
  cancel() {
    clearTimeout(this.#timer);
  }

  /** It went well, or is not wanted any more: the next pause is the shortest again. */
  end() {
    this.cancel();
    this.#failures = 0;
  }
}
