/** The memories that a reply was written with, behind a line that opens them. */

import { fullTime } from "./dates.js";
import { element } from "./element.js";
import { icon } from "./icon.js";

const WHY = {
  words: "same words",
  meaning: "similar meaning",
  speaker: "who said it",
  neighbour: "said next to it",
};

const MOST_SHOWN = 5;

export class Remembered {
  #summary = element("span");
  #list = element("ul");
  #count = -1;

  constructor() {
    const head = element("summary", {}, icon("memory"), this.#summary, icon("chevron"));
    this.element = element("details", { class: "remembered" }, head, this.#list);
    this.element.hidden = true;
  }

  /** `items` as run.memories has them; they come once, all together. */
  update(items) {
    if (items.length === this.#count) return;
    this.#count = items.length;
    this.element.hidden = items.length === 0;
    this.#summary.textContent = `Remembered ${items.length} ${items.length === 1 ? "thing" : "things"}`;
    const bestFirst = [...items].sort((one, other) => other.score - one.score);
    this.#list.replaceChildren(...bestFirst.slice(0, MOST_SHOWN).map(memoryElement));
    const left = items.length - MOST_SHOWN;
    if (left > 0) this.#list.append(element("li", { class: "source" }, `and ${left} more`));
  }
}

function memoryElement(memory) {
  const why = (memory.why ?? []).map((signal) => WHY[signal] ?? signal).join(", ");
  const path = [memory.conversation, memory.id].map(encodeURIComponent).join("/");
  const place = element("a", { href: `#/c/${path}` });
  place.textContent = fullTime(memory.timestamp);
  place.title = "Show where this was said";
  const source = element("p", { class: "source" }, place);
  if (why) source.append(element("span", {}, why));
  return element("li", {}, element("p", { class: "quote" }, memory.text), source);
}
