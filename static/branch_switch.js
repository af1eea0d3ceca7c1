/** Which of several alternatives is shown, and the way to the others: "2/3" between two arrows. */

import { element } from "./element.js";
import { icon } from "./icon.js";

export class BranchSwitch {
  #earlier = arrow("Show the version before", "earlier");
  #later = arrow("Show the version after", "later");
  #place = element("span");
  #branches = [];
  #at = 0;

  /** `onChoose(id, step)` with the message to show, and -1 or 1 for the way there. */
  constructor(onChoose) {
    const words = { class: "branch", role: "group", "aria-label": "Versions" };
    this.element = element("span", words, this.#earlier, this.#place, this.#later);
    for (const [button, step] of [[this.#earlier, -1], [this.#later, 1]]) {
      button.addEventListener("click", () => onChoose(this.#branches[this.#at + step], step));
    }
    this.element.hidden = true;
  }

  /** `branches` are the ids of the alternatives, oldest first, `id` the one that is shown. */
  update(branches, id) {
    this.#branches = branches;
    this.#at = branches.indexOf(id);
    this.element.hidden = branches.length < 2 || this.#at < 0;
    if (this.element.hidden) return;
    const place = `${this.#at + 1}/${branches.length}`;
    if (this.#place.textContent !== place) this.#place.textContent = place;
    this.#place.title = `Version ${this.#at + 1} of ${branches.length}`;
    this.#earlier.disabled = this.#at === 0;
    this.#later.disabled = this.#at === branches.length - 1;
  }

  /** Whoever went one `step` goes on from there, or back where there is no further one. */
  focus(step) {
    const [wanted, other] = step < 0 ? [this.#earlier, this.#later] : [this.#later, this.#earlier];
    (wanted.disabled ? other : wanted).focus();
  }
}

function arrow(label, direction) {
  const words = { type: "button", class: `tool ${direction}`, "aria-label": label, title: label };
  return element("button", words, icon("chevron"));
}
