/** One message, or one reply in the making, on the page. */

import { BranchSwitch } from "./branch_switch.js";
import { clock, fullTime } from "./dates.js";
import { Editor } from "./editor.js";
import { element } from "./element.js";
import { wordsFor } from "./faults.js";
import { icon } from "./icon.js";
import { renderMarkdown } from "./markdown.js";
import { Remembered } from "./remembered.js";

const OFFLINE_MODEL = "offline";
const FROM_MEMORY = "Answered from memory";
const WITHOUT_MODEL = "Answered from memory: no language model configured";
const MODEL_HINT = "Set OPENAI_API_KEY or OPENAI_BASE_URL and restart the server";

/** Why a reply ends earlier than it might; of a reply that was read again it is not known. */
const CUT_OFF = {
  length: "Cut off at the model's token limit",
  content_filter: "Cut off by the model's content filter",
};

/** What stands under a message besides its time: {text, tone, actions}; null for nothing. */
function noteFor(item) {
  if (item.entry) return unsentNote(item.entry);
  if (item.again) return againNote(item.again);
  if (item.live) return item.stopping ? { text: "Stopping…" } : null;
  if (item.status === "deleted") return { text: "Deleted" };
  if (item.reply === "interrupted") return unansweredNote(item);
  if (item.status === "failed" || item.error) return failedNote(item);
  if (item.status === "stopped") return { text: "Stopped" };
  if (item.status === "interrupted") return { text: "Interrupted before it was finished" };
  if (item.stored === false) return { text: "Kept by the server until it can be stored" };
  if (isWithoutModel(item)) {
    return { text: item.hint ? `${WITHOUT_MODEL}. ${MODEL_HINT}` : WITHOUT_MODEL, tone: "memory" };
  }
  const cutOff = item.role === "assistant" ? CUT_OFF[item.finishReason] : undefined;
  return cutOff === undefined ? null : { text: cutOff };
}

/** A question whose reply was lost with the server that was making it. */
function unansweredNote({ isLast, client_id: id }) {
  const text = "Interrupted before it was answered";
  return { text, actions: isLast && id !== undefined ? ["ask-again"] : [] };
}

/** A reply that no language model wrote, because the server has none. */
export function isWithoutModel(item) {
  return isFromMemory(item) && item.status === "completed" && !item.error;
}

/** A reply that no language model wrote, because there is none or because it failed. */
function isFromMemory({ role, model, text }) {
  return role === "assistant" && model === OFFLINE_MODEL && text !== "";
}

function failedNote(item) {
  const { error } = item;
  const rest = isFromMemory(item) ? FROM_MEMORY : "";
  const text = error ? `${wordsFor(error)} ${rest}` : rest || "This reply could not be finished.";
  const again = canBeAgain(item) && (error?.retryable ?? true);
  return { text, tone: error || rest === "" ? "fault" : "memory", actions: again ? ["ask-again"] : [] };
}

/** Another reply was asked for beside this one, and is not being made yet. */
function againNote({ state, error }) {
  if (state !== "failed") return { text: "Asking for another reply…" };
  return { text: wordsFor(error), tone: "fault", actions: ["retry", "discard"] };
}

/** Whether another reply can be asked for in the place of this one. */
function canBeAgain({ role, canRegenerate, live, status }) {
  return role === "assistant" && canRegenerate && !live && status !== "deleted";
}

/** Whether something else can be said in the place of this message. */
function canBeEdited({ role, id, entry, status }) {
  return role === "user" && id !== undefined && !entry && status !== "deleted";
}

function unsentNote({ type, state, error, sent }) {
  if (state === "failed") {
    const actions = error.retryable || error.code === "id_conflict" ? ["retry", "edit"] : ["edit"];
    if (type === "edit") actions.push("discard");
    return { text: `Not sent. ${wordsFor(error)}`, tone: "fault", actions };
  }
  if (state === "waiting" && error?.code === "rate_limited") {
    return { text: "Will be sent as soon as you can write again", actions: ["edit"] };
  }
  if (state === "waiting") return { text: `${wordsFor(error)} Trying again…`, actions: ["edit"] };
  return { text: sent ? "Sending…" : "Waiting to be sent" };
}

const LABELS = { retry: "Retry", edit: "Edit", "ask-again": "Ask again", discard: "Discard" };
const TOOLS = { rewrite: ["edit", "Edit this message"], again: ["again", "Ask for another reply"] };

export class MessageView {
  #item = {};
  #isOwn;
  #onAction;
  #text = element("div", { class: "text" });
  #remembered = new Remembered();
  #time = element("time");
  #note = element("span", { class: "note" });
  #actions = element("span", { class: "actions" });
  #tools;
  #tool;
  #branch = null;
  #editor = null;

  /**
   * `onAction(action, item, detail)` with action "retry", "edit", "discard", "ask-again", "again",
   * "rewrite" (detail: the new text) or "choose" (detail: {id, step}, see BranchSwitch).
   */
  constructor(item, onAction) {
    this.#isOwn = item.role === "user";
    this.#onAction = onAction;
    this.#tool = this.#isOwn
      ? toolButton("rewrite", () => this.edit(this.#item.text))
      : toolButton("again", () => this.#act("again"));
    this.#tools = element("span", { class: "tools" }, this.#tool);
    const parts = [this.#time, this.#note, this.#actions, this.#tools];
    const foot = element("div", { class: "foot" }, ...parts);
    const body = element("div", { class: "body" }, this.#text, this.#remembered.element, foot);
    this.element = element("article", { class: this.#isOwn ? "message own" : "message reply" });
    if (!this.#isOwn) this.element.append(element("span", { class: "mark" }, icon("logo")));
    this.element.append(body);
  }

  update(item) {
    const before = this.#item;
    this.#item = item;
    if (item.text !== before.text || item.live !== before.live) this.#drawText(item);
    if (item.timestamp !== before.timestamp) this.#drawTime(item);
    this.#remembered.update(item.memories ?? []);
    this.#drawNote(noteFor(item));
    this.#drawBranch(item);
    this.#tool.hidden = this.#isOwn ? !canBeEdited(item) : !canBeAgain(item);
    const isDeleted = item.status === "deleted";
    if (isDeleted) this.#closeEditor();
    this.element.classList.toggle("deleted", isDeleted);
    this.element.classList.toggle("last", Boolean(item.isLast));
    this.element.classList.toggle("live", Boolean(item.live));
    this.element.classList.toggle("unsent", Boolean(item.entry));
  }

  /** Opens the box to say it anew, with `text` in it. */
  edit(text) {
    this.#closeEditor();
    this.#editor = new Editor(text, (changed) => {
      this.#closeEditor();
      const isSame = changed === null || changed === this.#item.text.trim();
      if (isSame) this.#tool.focus();
      else this.#act("rewrite", changed);
    });
    this.#text.hidden = true;
    this.#text.after(this.#editor.element);
    this.element.classList.add("editing");
    this.#editor.focus();
  }

  /** The keyboard goes on where it chose the version that is shown now. */
  focusBranch(step) {
    this.#branch?.focus(step);
  }

  #drawBranch({ branches = [], id }) {
    if (branches.length > 1 && this.#branch === null) {
      this.#branch = new BranchSwitch((wanted, step) => this.#act("choose", { id: wanted, step }));
      this.#tools.prepend(this.#branch.element);
    }
    this.#branch?.update(branches, id);
  }

  #closeEditor() {
    this.#editor?.element.remove();
    this.#editor = null;
    this.#text.hidden = false;
    this.element.classList.remove("editing");
  }

  #act(action, detail = null) {
    this.#onAction(action, this.#item, detail);
  }

  #drawText({ text, live }) {
    if (this.#isOwn) {
      this.#text.textContent = text;
    } else if (live && text === "") {
      const dots = element("span", { class: "dots" }, element("i"), element("i"), element("i"));
      const words = element("span", { class: "unseen" }, "Tandem is thinking");
      this.#text.replaceChildren(element("p", { class: "thinking" }, dots, words));
    } else {
      renderMarkdown(this.#text, text);
    }
  }

  #drawTime({ timestamp, role }) {
    const known = timestamp !== undefined;
    const who = role === "user" ? "You" : "Tandem";
    this.element.setAttribute("aria-label", known ? `${who}, ${clock(timestamp)}` : who);
    if (!known) return;
    this.#time.textContent = clock(timestamp);
    this.#time.dateTime = new Date(timestamp * 1000).toISOString();
    this.#time.title = fullTime(timestamp);
  }

  #drawNote(note) {
    const text = note?.text ?? "";
    const actions = (note?.actions ?? []).join(" ");
    if (this.#note.textContent === text && this.#actions.dataset.for === actions) return;
    this.#note.textContent = text;
    this.#note.dataset.tone = note?.tone ?? "plain";
    this.#actions.dataset.for = actions;
    this.#actions.replaceChildren(...(note?.actions ?? []).map((action) => this.#button(action)));
  }

  #button(action) {
    const button = element("button", { type: "button" }, LABELS[action]);
    button.addEventListener("click", () => this.#act(action));
    return button;
  }
}

function toolButton(action, onClick) {
  const [drawing, label] = TOOLS[action];
  const words = { type: "button", class: "tool", "aria-label": label, title: label };
  const button = element("button", words, icon(drawing));
  button.addEventListener("click", onClick);
  return button;
}

/** The line between two days. */
export class DayView {
  constructor(item) {
    this.element = element("h2", { class: "day" }, element("span", {}, item.label));
  }

  update() {
    // A day's name is drawn once; after midnight the next reload says "Yesterday".
  }
}
