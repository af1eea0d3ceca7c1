/** The box to write in. */

import { bytesOf, MOST_BYTES, wordsForBytes } from "./text_limit.js";

/** The count appears when this share of the limit is used. */
const NEARLY_FULL = 0.9;
/** What is typed is told when the keys have rested for so long. */
const DRAFT_AFTER_MS = 250;

export class Composer {
  #box;
  #send;
  #stop;
  #count;
  #note;
  #blocked = false;
  #draftTimer = null;
  #drafted = "";
  #hooks;

  /**
   * `elements`: {form, box, send, stop, count, note}; hooks: `onSend(text)`, `onDraft(text)`,
   * `onStop()`.
   */
  constructor({ form, box, send, stop, count, note }, hooks) {
    this.#box = box;
    this.#send = send;
    this.#stop = stop;
    this.#count = count;
    this.#note = note;
    this.#hooks = hooks;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    box.addEventListener("input", () => {
      this.#measure();
      clearTimeout(this.#draftTimer);
      this.#draftTimer = setTimeout(() => this.#draft(), DRAFT_AFTER_MS);
    });
    box.addEventListener("keydown", (event) => this.#key(event));
    stop.addEventListener("click", () => hooks.onStop());
    this.#measure();
  }

  focus() {
    this.#box.focus();
  }

  /** Puts `text` into the box, behind what stands there already. */
  fill(text) {
    const before = this.#box.value.trimEnd();
    this.#box.value = before === "" ? text : `${before}\n${text}`;
    this.#measure();
    this.#box.focus();
    this.#box.setSelectionRange(this.#box.value.length, this.#box.value.length);
  }

  /** Nothing can be sent while `blocked`; it can still be written. */
  showLimit({ blocked, text }) {
    this.#blocked = blocked;
    this.#note.textContent = text;
    this.#note.classList.toggle("blocked", blocked);
    this.#measure();
  }

  /** A reply is being written, and `canStop` it. */
  showLive(live, { canStop }) {
    this.#stop.hidden = !live;
    this.#stop.disabled = !canStop;
  }

  #key(event) {
    // Enter also ends the choice of a character in Chinese, Japanese and Korean input.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape" && !this.#stop.hidden && !this.#stop.disabled) {
      this.#hooks.onStop();
    }
  }

  #draft() {
    const text = this.#box.value.trim();
    if (text === this.#drafted || !this.#canSend(text)) return;
    this.#drafted = text;
    this.#hooks.onDraft(text);
  }

  #submit() {
    const text = this.#box.value.trim();
    if (!this.#canSend(text)) return;
    clearTimeout(this.#draftTimer);
    this.#drafted = "";
    this.#box.value = "";
    this.#measure();
    this.#hooks.onSend(text);
  }

  #canSend(text) {
    return text !== "" && !this.#blocked && bytesOf(text) <= MOST_BYTES;
  }

  #measure() {
    const text = this.#box.value.trim();
    const bytes = bytesOf(text);
    const over = bytes > MOST_BYTES;
    this.#send.disabled = !this.#canSend(text);
    this.#count.hidden = bytes < MOST_BYTES * NEARLY_FULL;
    this.#count.classList.toggle("over", over);
    this.#count.textContent = wordsForBytes(bytes);
    this.#box.style.height = "auto";
    this.#box.style.height = `${this.#box.scrollHeight}px`;
  }
}
