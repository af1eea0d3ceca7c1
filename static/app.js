/** The page put together: elements, their objects, and who tells whom. */

import { openSession, startSession } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { Drawer } from "./drawer.js";
import { wordsFor } from "./faults.js";
import { Limits } from "./limits.js";
import { Notices } from "./notice.js";
import { Status } from "./status.js";
import { Theme } from "./theme.js";
import { Transcript } from "./transcript.js";

const NEW_CHAT = "#/";
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
  { list: byId("conversations"), more: byId("more"), note: byId("list-note") },
  (id) => chat.isLive(id),
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
  { onSend: send, onStop: () => chat.stop() },
);
const connection = new Connection({
  openSession,
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
  const before = byId("user").textContent;
  // Another tab started anew: what is shown here belongs to somebody else.
  if (before !== "" && before !== frame.user) location.reload();
  byId("user").textContent = frame.user;
  limits.update(frame.limits);
  chat.connected(frame.user);
  conversations.load();
}

function take(frame) {
  if (frame.type === "limits") limits.update(frame);
  else if (frame.type === "conversation.updated") conversations.update(frame.conversation);
  else if (frame.type === "conversation.deleted") drop(frame.conversation.id);
  else if (frame.type === "goaway") notices.show("The server is about to restart.");
  else chat.handle(frame);
  if (frame.type === "reset") conversations.load();
}

function drop(conversation) {
  conversations.remove(conversation);
  chat.forget(conversation);
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

function act(action, item) {
  if (action === "retry") chat.outbox.retry(item.entry.id);
  else if (action === "edit") composer.fill(chat.outbox.remove(item.entry.id).text);
  else if (action === "ask-again") {
    const question = chat.questionText(item);
    if (question !== null) send(question);
  }
}

/** Shows the conversation that the address names. */
function route() {
  const match = /^#\/c\/(.+)$/.exec(location.hash);
  const conversation = match ? decodeURIComponent(match[1]) : null;
  drawer.close();
  if (conversation !== null && conversation === chat.thread?.conversation) {
    conversations.select(conversation);
    return;
  }
  chat.open(conversation);
  conversations.select(chat.thread.conversation);
  if (connection.isOnline) chat.reread();
  if (window.matchMedia("(hover: hover)").matches) composer.focus();
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
  const failed = thread.reading instanceof Error;
  const known = thread.isNew || thread.reading === "read";
  transcript.render(thread.conversation, items);
  empty.hidden = items.length > 0 || !known;
  loading.hidden = items.length > 0 || known || failed;
  unread.hidden = !failed;
  if (failed) byId("unread-words").textContent = wordsFor(thread.reading);
  byId("older").hidden = thread.before === null || failed;
  const live = chat.liveRuns();
  composer.showLive(live.length > 0, {
    canStop: connection.isOnline && live.some((run) => !run.stopping),
  });
  heading.textContent = conversations.title(thread.conversation) ?? "New chat";
  document.title = `${heading.textContent} · Tandem`;
  conversations.render();
}

new Theme(byId("theme"));
byId("new-chat").addEventListener("click", () => {
  openNewChat();
  composer.focus();
});
byId("unread-retry").addEventListener("click", () => chat.reread());
for (const example of document.querySelectorAll("[data-example]")) {
  example.addEventListener("click", () => composer.fill(example.dataset.example));
}
window.addEventListener("hashchange", route);
status.show({ name: "connecting", reason: "", isStranger: false });
route();
connection.start();
