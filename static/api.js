/** What the page asks the server over HTTP: the session, the list, the history. */

const TIMEOUT_MS = 10_000;
const PAGE_LENGTH = 50;

/** The server said no, or could not be heard (`code` "unreachable"). */
export class ApiError extends Error {
  constructor({ code, message, retryable = false, retry_after_ms: retryAfterMs = null }) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

async function request(path, options = {}) {
  let response;
  let body;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      credentials: "same-origin",
      ...options,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    body = await response.json();
  } catch {
    // No answer, or none in JSON: a proxy in between, or a server that is starting.
    throw new ApiError({ code: "unreachable", message: "no answer", retryable: true });
  }
  if (!response.ok) {
    const unnamed = { code: "internal", message: response.statusText, retryable: true };
    throw new ApiError(body.error ?? unnamed);
  }
  return body;
}

function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null);
  return new URLSearchParams(given).toString();
}

/** Starts a session, or continues the one that the cookie names: {token, user}. */
export function openSession() {
  return request("api/session", { method: "POST" });
}

/**
 * Starts a session as somebody new, whatever the cookie says. The server refuses a cookie that it
 * does not know rather than make its owner a stranger, and scripts cannot remove it: so the new
 * session is asked for without the cookie, and then shown to the server to get its own.
 */
export async function startSession() {
  const { token } = await request("api/session", { method: "POST", credentials: "omit" });
  const headers = { Authorization: `Bearer ${token}` };
  return request("api/session", { method: "POST", headers });
}

/** A page of conversations, latest first: {conversations, before}. */
export function listConversations(before = null) {
  return request(`api/conversations?${query({ limit: PAGE_LENGTH, before })}`);
}

/** A page of messages, oldest first, and the live runs: {messages, before, runs}. */
export function readMessages(conversation, before = null) {
  const parameters = query({ limit: PAGE_LENGTH, before });
  return request(`api/conversations/${encodeURIComponent(conversation)}/messages?${parameters}`);
}

/** Has the branch shown that message `head` is on; returns the conversation as it is then. */
export async function chooseHead(conversation, head) {
  const path = `api/conversations/${encodeURIComponent(conversation)}`;
  const answer = await request(path, {
    method: "PATCH",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ head }),
  });
  return answer.conversation;
}
