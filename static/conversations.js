/** The list of conversations: what the server has, kept up to date by what happens. */

import { listConversations } from "./api.js";
import { shortTime } from "./dates.js";
import { element } from "./element.js";
import { wordsForUnread } from "./faults.js";
import { KeyedList } from "./keyed_list.js";
import { Retries } from "./retries.js";

const LONGEST_TITLE = 60;

export class Conversations {
  #known = new Map();
  #before = null;
  #list;
  #more;
  #note;
  #retry;
  #retries = new Retries();
  /** Where the page begins that could not be read. */
  #unread = null;
  #open = null;
  #isLive;
  #onChange;

  /**
   * `elements`: {list, more, note, retry}; `isLive(id)` says whether a reply is being written there,
   * `onChange()` follows every change: titles stand in more places than this list.
   */
  constructor({ list, more, note, retry }, { isLive, onChange }) {
    this.#list = new KeyedList(list, () => new ConversationView());
    this.#more = more;
    this.#note = note;
    this.#retry = retry;
    this.#isLive = isLive;
    this.#onChange = onChange;
    this.isRead = false;
    more.addEventListener("click", () => this.#loadMore());
    retry.addEventListener("click", () => this.#read(this.#unread));
  }

  /** What conversation `id` is called; null when it is not among those known. */
  title(id) {
    return this.#known.get(id)?.title ?? null;
  }

  /** The message whose branch of conversation `id` is shown; null while nobody chose one. */
  head(id) {
    return this.#known.get(id)?.head ?? null;
  }

  /** Reads the first page; the rest of what is known stays. */
  async load() {
    await this.#read(null);
  }

  async #loadMore() {
    this.#more.disabled = true;
    await this.#read(this.#before);
    this.#more.disabled = false;
  }

  async #read(before) {
    this.#retries.cancel();
    try {
      const page = await listConversations(before);
      if (before === null) this.#dropMissing(page);
      for (const conversation of page.conversations) this.update(conversation);
      // A first page read again must not lose the place of the pages behind it.
      if (before !== null || this.#before === null) this.#before = page.before;
      this.isRead = true;
      this.#retries.end();
      this.#say("");
    } catch (error) {
      this.#unread = before;
      this.#retries.plan(() => this.#read(before), error);
      this.#say(`The list could not be loaded. ${wordsForUnread(error)}`);
    }
    this.#onChange();
  }

  #say(words) {
    // Said once: what is written anew is read aloud anew.
    if (this.#note.textContent !== words) this.#note.textContent = words;
    this.#retry.hidden = words === "";
  }

  /** What the first page should hold and does not was deleted, unless the server never had it. */
  #dropMissing({ conversations, before }) {
    const ids = new Set(conversations.map((conversation) => conversation.id));
    const oldest = before === null ? 0 : (conversations.at(-1)?.updated_at ?? 0);
    for (const { id, updated_at: updatedAt, created_at: createdAt } of [...this.#known.values()]) {
      if (createdAt !== undefined && updatedAt > oldest && !ids.has(id)) this.#known.delete(id);
    }
  }

  /** Takes what the server says of a conversation. */
  update(conversation) {
    this.#known.set(conversation.id, { ...this.#known.get(conversation.id), ...conversation });
    this.#onChange();
  }

  /** Something was said in `id`; a new conversation is called after it until the server names it. */
  touch({ id, text, timestamp }) {
    const known = this.#known.get(id) ?? { id, title: shortened(text), updated_at: 0 };
    this.update({ ...known, updated_at: Math.max(known.updated_at, timestamp) });
  }

  remove(id) {
    this.#known.delete(id);
    this.#onChange();
  }

  select(id) {
    this.#open = id;
    this.#onChange();
  }

  render() {
    const latestFirst = [...this.#known.values()].sort(
      (one, other) => other.updated_at - one.updated_at,
    );
    this.#list.render(
      latestFirst.map((conversation) => ({
        key: conversation.id,
        title: conversation.title || "Untitled",
        time: shortTime(conversation.updated_at),
        isOpen: conversation.id === this.#open,
        isLive: this.#isLive(conversation.id),
      })),
    );
    this.#more.hidden = this.#before === null;
  }
}

class ConversationView {
  #title = element("span", { class: "title" });
  #time = element("span", { class: "time" });
  #link = element("a", {}, this.#title, this.#time);

  constructor() {
    this.element = element("li", {}, this.#link);
  }

  update({ key, title, time, isOpen, isLive }) {
    this.#link.href = `#/c/${encodeURIComponent(key)}`;
    if (this.#title.textContent !== title) this.#title.textContent = title;
    if (this.#time.textContent !== time) this.#time.textContent = time;
    this.#link.classList.toggle("live", isLive);
    if (isOpen) this.#link.setAttribute("aria-current", "page");
    else this.#link.removeAttribute("aria-current");
  }
}

function shortened(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE).trimEnd()}…` : line;
}
