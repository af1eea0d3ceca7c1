/** The box in which an own message is said anew, in the place of its text. */

import { element } from "./element.js";
import { bytesOf, MOST_BYTES, wordsForBytes } from "./text_limit.js";

export class Editor {
  #box = element("textarea", { rows: "1", "aria-label": "Edit your message" });
  #send = element("button", { type: "submit", class: "quiet main" }, "Send");
  #note = element("span", { class: "note", role: "status" });
  #onEnd;

  /** `onEnd(text)` once, when it is to go: with what is to be said instead, or null. */
  constructor(text, onEnd) {
    this.#onEnd = onEnd;
    const cancel = element("button", { type: "button", class: "quiet" }, "Cancel");
    const buttons = element("div", { class: "buttons" }, this.#note, cancel, this.#send);
    this.element = element("form", { class: "editor" }, this.#box, buttons);
    this.#box.value = text;
    this.#box.addEventListener("input", () => this.#measure());
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    cancel.addEventListener("click", () => this.#onEnd(null));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** To be called once it stands in the page. */
  focus() {
    this.#measure();
    this.#box.focus();
    this.#box.setSelectionRange(this.#box.value.length, this.#box.value.length);
  }

  #key(event) {
    // As in the composer: Enter also ends the choice of a character.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      this.#onEnd(null);
    }
  }

  #submit() {
    if (!this.#send.disabled) this.#onEnd(this.#box.value.trim());
  }

  #measure() {
    const text = this.#box.value.trim();
    const bytes = bytesOf(text);
    this.#send.disabled = text === "" || bytes > MOST_BYTES;
    this.#note.textContent = bytes > MOST_BYTES ? wordsForBytes(bytes) : "";
    this.#box.style.height = "auto";
    this.#box.style.height = `${this.#box.scrollHeight}px`;
  }
}
