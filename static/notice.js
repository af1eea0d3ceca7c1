/** Short words about something that belongs to no message; they go by themselves. */

import { element } from "./element.js";

const SHOWN_FOR_MS = 7_000;
const MOST_SHOWN = 3;

export class Notices {
  #container;

  constructor(container) {
    this.#container = container;
  }

  /** Shows `text` for a while; the element that is returned can be removed before. */
  show(text) {
    const close = element("button", { type: "button", "aria-label": "Dismiss" }, "×");
    const notice = element("p", { class: "notice" }, element("span", {}, text), close);
    close.addEventListener("click", () => notice.remove());
    setTimeout(() => notice.remove(), SHOWN_FOR_MS);
    this.#container.append(notice);
    if (this.#container.childElementCount > MOST_SHOWN) this.#container.firstElementChild.remove();
    return notice;
  }
}
