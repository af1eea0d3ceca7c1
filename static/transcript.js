/** The messages of the open conversation on the page, and where the reader stands in them. */

import { dayName, dayOf } from "./dates.js";
import { KeyedList } from "./keyed_list.js";
import { DayView, isWithoutModel, MessageView } from "./message_view.js";

/** Nearer than this to the end, the reader follows what is being written. */
const AT_END_PX = 48;
const MARKED_FOR_MS = 3_000;

export class Transcript {
  #scroller;
  #list;
  #toEnd;
  #follows = true;
  #shown = null;
  #hinted = null;
  #lastTop = 0;

  /**
   * `elements`: {scroller, column, toEnd, older}; `onAction(action, item)` for a message's
   * buttons; `onOlder()` when the reader comes to the oldest message held.
   */
  constructor({ scroller, column, toEnd, older }, { onAction, onOlder }) {
    this.#scroller = scroller;
    this.#toEnd = toEnd;
    this.#list = new KeyedList(column, (item) =>
      item.kind === "day" ? new DayView(item) : new MessageView(item, onAction),
    );
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    toEnd.addEventListener("click", () => this.scrollToEnd());
    older.addEventListener("click", onOlder);
    new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) onOlder();
    }, { root: scroller }).observe(older);
    // Fonts, pictures of code, a keyboard that slides in: all of them move the end.
    const follow = new ResizeObserver(() => this.#follow());
    follow.observe(scroller);
    follow.observe(column);
  }

  /** Shows `items` of `conversation`; another one than before is shown from its end. */
  render(conversation, items) {
    if (conversation !== this.#shown) {
      this.#shown = conversation;
      this.#follows = true;
    }
    // Older messages are put in above: the reader keeps the line that was being read.
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    const first = this.#scroller.querySelector(".message");
    this.#list.render(withDays(this.#withHint(items)));
    const grewAbove = first?.isConnected && first !== this.#scroller.querySelector(".message");
    if (grewAbove && !this.#follows) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
    }
    this.#follow();
  }

  /** Brings the message with `key` into view, and marks it for a moment. */
  reveal(key) {
    const shown = this.#list.viewOf(key)?.element;
    if (shown === undefined) return;
    this.#follows = false;
    shown.scrollIntoView({ block: "center" });
    // Whoever reads with a keyboard or a screen reader goes on from there.
    shown.tabIndex = -1;
    shown.focus({ preventScroll: true });
    shown.classList.add("sought");
    setTimeout(() => shown.classList.remove("sought"), MARKED_FOR_MS);
    this.#follow();
  }

  /** Opens the box to say the message with `key` anew, with `text` in it. */
  edit(key, text) {
    this.#list.viewOf(key)?.edit(text);
  }

  /** Another version of a message is shown since its reader went one `step`: they stay with it. */
  stayWith(key, step) {
    this.#follows = false;
    this.#list.viewOf(key)?.focusBranch(step);
    this.#follow();
  }

  scrollToEnd() {
    this.#follows = true;
    this.#follow();
  }

  /** How to set a language model up is said once, under the first reply that was without one. */
  #withHint(items) {
    const newest = items.at(-1);
    if (newest !== undefined && isWithoutModel(newest)) this.#hinted ??= newest.key;
    return items.map((item) => (item.key === this.#hinted ? { ...item, hint: true } : item));
  }

  #follow() {
    if (this.#follows) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#toEnd.hidden = this.#follows;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight < AT_END_PX) this.#follows = true;
    // Only going up is leaving: while a reply grows, the end runs ahead of the scroll event.
    else if (scrollTop < this.#lastTop) this.#follows = false;
    this.#lastTop = scrollTop;
    this.#toEnd.hidden = this.#follows;
  }
}

function withDays(items) {
  const shown = [];
  let day = "";
  items.forEach((item, index) => {
    const next = item.timestamp === undefined ? day : dayOf(item.timestamp);
    // Replies stand behind their questions, so a day may come up twice: it is named once.
    if (next > day) {
      day = next;
      shown.push({ key: `day:${day}`, kind: "day", label: dayName(item.timestamp) });
    }
    shown.push({ ...item, isLast: index === items.length - 1 });
  });
  return shown;
}
