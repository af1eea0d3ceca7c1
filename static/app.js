/** The page put together: elements, their objects, and who tells whom. */

import { openSession, startSession } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { Drawer } from "./drawer.js";
import { wordsFor, wordsForUnread } from "./faults.js";
import { Limits } from "./limits.js";
import { Notices } from "./notice.js";
import { Status } from "./status.js";
import { Theme } from "./theme.js";
import { Transcript } from "./transcript.js";

const NEW_CHAT = "#/";
const GUEST_PREFIX = "guest-";
const byId = (id) => document.getElementById(id);
const announcer = byId("announcer");
const empty = byId("empty");
const loading = byId("loading");
const unread = byId("unread");
const heading = byId("heading");

const notices = new Notices(byId("notices"));
const drawer = new Drawer({
  drawer: byId("drawer"),
  page: byId("page"),
  button: byId("drawer-button"),
  veil: byId("veil"),
});
const status = new Status(
  {
    root: document.documentElement,
    corner: byId("connection"),
    line: byId("connection-line"),
    retry: byId("connection-retry"),
  },
  ({ isStranger }) => (isStranger ? startAnew() : connection.start()),
);
let wasBlocked = false;
const limits = new Limits((note) => {
  composer.showLimit(note);
  // A countdown that is read aloud each second would talk over everything else.
  if (note.blocked && !wasBlocked) announcer.textContent = note.text;
  if (!note.blocked && wasBlocked) chat.outbox.limitLifted();
  wasBlocked = note.blocked;
});
const conversations = new Conversations(
  { list: byId("conversations"), more: byId("more"), note: byId("list-note"), retry: byId("list-retry") },
  { isLive: (id) => chat.isLive(id), onChange: scheduleRender },
);
const transcript = new Transcript(
  {
    scroller: byId("scroller"),
    column: byId("messages"),
    toEnd: byId("to-end"),
    older: byId("older"),
  },
  { onAction: act, onOlder: () => chat.readOlder() },
);
const composer = new Composer(
  {
    form: byId("composer"),
    box: byId("box"),
    send: byId("send"),
    stop: byId("stop"),
    count: byId("count"),
    note: byId("limit-note"),
  },
  { onSend: send, onDraft: (text) => chat.draft(text), onStop: () => chat.stop() },
);
/** What the next drawing is to go on with: each is done once, when what it needs is there. */
const next = { found: null, editor: null, branch: null };
const connection = new Connection({
  openSession,
  hello: () => chat.hello(),
  onState: changeConnection,
  onWelcome: welcome,
  onFrame: take,
});
const chat = new Chat({
  send: (frame) => connection.send(frame),
  onChange: scheduleRender,
  onReply: (reply) => {
    const words = reply.error ? wordsFor(reply.error) : "";
    announcer.textContent = `Tandem: ${reply.text} ${words}`;
  },
  onTouched: (touched) => conversations.touch(touched),
  onUpdated: update,
  onDeleted: drop,
  onBehind: () => conversations.load(),
  onLost: () => connection.renew(),
  onFound: (key) => {
    next.found = key;
    if (key === null) notices.show("That message is not to be found in this conversation.");
  },
  onLimited: (forMs) => limits.block(forMs),
  onFault: (error) => notices.show(wordsFor(error)),
});

function changeConnection(state) {
  status.show(state);
  if (state.name !== "online") chat.outbox.disconnected();
  scheduleRender();
}

/** As somebody new, nothing on this page is one's own any more. */
async function startAnew() {
  try {
    await startSession();
    history.replaceState(null, "", NEW_CHAT);
    location.reload();
  } catch (error) {
    notices.show(wordsFor(error));
  }
}

function welcome(frame) {
  const corner = byId("user");
  const before = corner.dataset.user ?? frame.user;
  // Another tab started anew: what is shown here belongs to somebody else.
  if (before !== frame.user) location.reload();
  corner.dataset.user = frame.user;
  corner.title = frame.user;
  corner.textContent = frame.user.startsWith(GUEST_PREFIX) ? "Guest" : frame.user;
  goingAway?.remove();
  limits.update(frame.limits);
  const isResumed = chat.connected(frame);
  if (!isResumed || !conversations.isRead) conversations.load();
}

/** What was said of a restart: not true any more once another process has said welcome. */
let goingAway = null;

function take(frame) {
  if (frame.type === "limits") limits.update(frame);
  else if (frame.type === "goaway") goingAway = notices.show("The server is about to restart.");
  else chat.handle(frame);
}

/** The server tells of a conversation; when another branch of it is shown, that is read. */
function update(conversation) {
  const before = conversations.head(conversation.id);
  conversations.update(conversation);
  if (conversation.id !== chat.thread.conversation) return;
  if ((conversation.head ?? null) !== before) chat.reread();
}

function drop(conversation) {
  conversations.remove(conversation);
  if (chat.thread.conversation !== conversation) return;
  notices.show("This conversation was deleted.");
  openNewChat();
}

function openNewChat() {
  if (location.hash !== NEW_CHAT) history.pushState(null, "", NEW_CHAT);
  // At once: an address that changes is told later, and the next key may be Enter.
  route();
}

function send(text) {
  chat.send(text);
  const id = chat.thread.conversation;
  conversations.touch({ id, text, timestamp: Date.now() / 1000 });
  const place = `#/c/${encodeURIComponent(id)}`;
  // A new conversation gets its address with its first message.
  if (location.hash !== place) location.hash = place;
  transcript.scrollToEnd();
}

/** Carries out what a message's button says; `detail` as MessageView has it. */
function act(action, item, detail) {
  const entry = item.entry ?? item.again;
  if (action === "retry") chat.outbox.retry(entry.id);
  else if (action === "discard") chat.outbox.remove(entry.id);
  else if (action === "edit") editUnsent(chat.outbox.remove(entry.id));
  else if (action === "ask-again" && item.role === "user") chat.askAgain(item);
  else if (action === "rewrite") rewrite(item, detail);
  else if (action === "choose") choose(detail);
  else chat.regenerate(item);
}

/** What was refused is written anew: in the box, or where it was to stand. */
function editUnsent({ type, message, text }) {
  const key = type === "edit" ? chat.thread.keyOf(message) : null;
  if (key === null) composer.fill(text);
  else next.editor = { key, text };
}

function rewrite(item, text) {
  chat.edit(item.id, text);
  focusComposer();
}

async function choose({ id, step }) {
  next.branch = { id, step };
  if (!(await chat.choose(id))) next.branch = null;
}

/** Where a keyboard is part of the screen, it does not come up unasked. */
function focusComposer() {
  if (window.matchMedia("(hover: hover)").matches) composer.focus();
}

/** Shows the conversation that the address names, at the message that it names, if any. */
function route() {
  const [, place, message] = /^#(\/c\/[^/]+)(?:\/([^/]+))?$/.exec(location.hash) ?? [];
  const conversation = place ? decodeURIComponent(place.slice("/c/".length)) : null;
  drawer.close();
  next.branch = null;
  const isOpen = conversation !== null && conversation === chat.thread?.conversation;
  if (!isOpen) chat.open(conversation);
  conversations.select(chat.thread.conversation);
  if (message !== undefined) {
    // Shown once: the same link must work again, and a reload shows the end as always.
    history.replaceState(null, "", `#${place}`);
    chat.seek(decodeURIComponent(message));
  } else if (!isOpen) {
    focusComposer();
  }
  if (connection.isOnline && (!isOpen || message !== undefined)) chat.reread();
}

let renderPlanned = false;

/** One drawing per frame, however many deltas came in. */
function scheduleRender() {
  if (renderPlanned) return;
  renderPlanned = true;
  requestAnimationFrame(() => {
    renderPlanned = false;
    render();
  });
}

function render() {
  const { thread } = chat;
  const items = chat.items();
  const { isMissing } = thread;
  const failed = thread.fault !== null;
  const known = thread.isNew || thread.reading === "read";
  transcript.render(thread.conversation, items);
  empty.hidden = items.length > 0 || !known;
  loading.hidden = items.length > 0 || known || failed;
  unread.hidden = !failed;
  byId("unread-retry").hidden = isMissing;
  byId("unread-new").hidden = !isMissing;
  if (failed) byId("unread-words").textContent = wordsForFault(thread);
  byId("older").hidden = thread.before === null || failed;
  const live = chat.liveRuns();
  composer.showLive(live.length > 0, {
    canStop: connection.isOnline && live.some((run) => !run.stopping),
  });
  heading.textContent = nameOf(thread);
  document.title = heading.textContent ? `${heading.textContent} · Tandem` : "Tandem";
  conversations.render();
  goOn(thread);
}

function goOn(thread) {
  if (next.found !== null) transcript.reveal(next.found);
  if (next.editor !== null) transcript.edit(next.editor.key, next.editor.text);
  next.found = null;
  next.editor = null;
  const chosen = next.branch === null ? undefined : thread.find(next.branch.id);
  if (chosen === undefined) return;
  transcript.stayWith(chosen.key, next.branch.step);
  next.branch = null;
  announcer.textContent = versionOf(chosen);
}

function versionOf({ id, branches, text }) {
  return `Version ${branches.indexOf(id) + 1} of ${branches.length}: ${text}`;
}

function wordsForFault({ isMissing, fault }) {
  if (isMissing) return "This conversation does not exist, or not any more.";
  return `The messages could not be loaded. ${wordsForUnread(fault)}`;
}

/** What the conversation is called; nothing while that is not known. */
function nameOf({ conversation, isNew, isMissing }) {
  if (isNew) return conversations.title(conversation) ?? "New chat";
  if (isMissing) return "Unknown conversation";
  return conversations.title(conversation) ?? (conversations.isRead ? "Earlier conversation" : "");
}

new Theme(byId("theme"));
for (const id of ["new-chat", "unread-new"]) {
  byId(id).addEventListener("click", () => {
    openNewChat();
    composer.focus();
  });
}
byId("unread-retry").addEventListener("click", () => chat.reread());
for (const example of document.querySelectorAll("[data-example]")) {
  example.addEventListener("click", () => composer.fill(example.dataset.example));
}
window.addEventListener("hashchange", route);
status.show({ name: "connecting", reason: "", isStranger: false });
route();
connection.start();
