/**
 * The making of one reply, as this client has it so far. Pure: no network, no page.
 *
 * Offsets count Unicode code points, as the protocol does; JavaScript's string length counts
 * UTF-16 units, which differ for emoji.
 */

const MOST_AHEAD = 2000;

export function countCodePoints(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** `text` without its first `count` code points. */
export function dropCodePoints(text, count) {
  let units = 0;
  let left = count;
  for (const point of text) {
    if (left <= 0) break;
    units += point.length;
    left -= 1;
  }
  return text.slice(units);
}

export class Run {
  #length = 0;
  #ahead = [];
  #isStarted = false;

  /** `serial` orders runs by when this client heard of them. */
  constructor(id, serial) {
    this.id = id;
    this.serial = serial;
    this.conversation = null;
    this.question = null;
    this.model = null;
    this.text = "";
    /** null until they were told; none may be. */
    this.memories = null;
    this.stopping = false;
    /** Whether what is missing of it was asked for, and the answer is under way. */
    this.isAsked = false;
  }

  /** The code points held without a gap. */
  get length() {
    return this.#length;
  }

  /** Whether text is missing between what is held and what has come in since. */
  get hasGap() {
    return this.#ahead.length > 0;
  }

  /** Its beginning was told; once more means that it is made anew, and what was held is void. */
  start() {
    if (this.#isStarted) this.#clear();
    this.#isStarted = true;
  }

  remember(memories) {
    this.memories = memories;
  }

  forgetMemory(id) {
    this.memories = this.memories?.filter((memory) => memory.id !== id) ?? null;
  }

  /**
   * Takes one delta: "applied", "duplicate" (held already), or "gap" (text before it is missing;
   * it waits for that).
   */
  applyDelta(offset, text) {
    if (offset > this.#length) {
      if (this.#ahead.length < MOST_AHEAD) this.#ahead.push({ offset, text });
      return "gap";
    }
    const fresh = dropCodePoints(text, this.#length - offset);
    if (fresh === "") return "duplicate";
    this.#append(fresh);
    this.#drain();
    return "applied";
  }

  /** Takes the text so far from a read of the whole; what waited behind a gap follows. */
  catchUp(text) {
    if (countCodePoints(text) > this.#length) {
      this.text = "";
      this.#length = 0;
      this.#append(text);
    }
    this.#drain();
  }

  /** What waited behind a gap follows, as far as the gap is closed. */
  #drain() {
    if (this.#ahead.length === 0) return;
    const waiting = this.#ahead.sort((one, other) => one.offset - other.offset);
    this.#ahead = [];
    for (const delta of waiting) this.applyDelta(delta.offset, delta.text);
  }

  #clear() {
    this.text = "";
    this.#length = 0;
    this.#ahead = [];
  }

  #append(text) {
    this.text += text;
    this.#length += countCodePoints(text);
  }
}
