/** What went wrong, in words for the person in front of the page. */

const BY_CODE = {
  bad_frame: "The server did not understand this page. Reload it.",
  bad_request: "The server did not understand the request.",
  empty_text: "An empty message cannot be sent.",
  text_too_long: "The message is too long.",
  not_authenticated: "Your session is not valid any more.",
  forbidden: "You are not allowed to do that.",
  not_found: "That does not exist any more.",
  unknown_conversation: "That conversation does not exist any more.",
  unknown_parent: "The message that this one follows does not exist any more.",
  unknown_message: "That message does not exist any more.",
  unknown_run: "That reply is finished already.",
  id_conflict: "This message got mixed up with another one.",
  rate_limited: "You are writing faster than allowed.",
  busy: "Several messages are still waiting for their replies here.",
  not_stored: "It could not be stored.",
  store_unknown: "It is not certain that the message was stored.",
  store_busy: "The server is busy storing other messages.",
  erasing: "All that you said is being erased. Try again in a minute.",
  not_ready: "The server is still starting.",
  overloaded: "The server has too many visitors just now.",
  too_many_commands: "This page asked for too much at once.",
  shutting_down: "The server is restarting.",
  model_unauthorized: "The language model refused the server's key.",
  model_rate_limited: "The language model is overloaded.",
  model_unavailable: "The language model could not be reached.",
  model_timeout: "The language model took too long.",
  model_interrupted: "The language model broke off.",
  model_refused: "The language model refused to answer.",
  internal: "Something went wrong on the server.",
  unreachable: "The server cannot be reached.",
};

const BY_CLOSE_CODE = {
  4500: "The server did not understand this page. Reload it.",
  4501: "Your session was not accepted.",
  4503: "This page is not allowed to connect.",
  4504: "Tandem is open in too many tabs. Close one and try again.",
  4505: "This page is older than the server. Reload it.",
  4507: "The server did not hear from this page in time.",
};

/** What `error` ({code, message}) means; the server's own words where the code is unknown. */
export function wordsFor(error) {
  return BY_CODE[error.code] ?? error.message ?? "Something went wrong.";
}

/** Why something could not be read; a page that reads has been connected, so nothing starts. */
export function wordsForUnread(error) {
  if (error.code === "not_ready") return "The server cannot read it right now; trying again.";
  return error.retryable ? `${wordsFor(error)} Trying again.` : wordsFor(error);
}

/** Why the server ended the connection for good. */
export function wordsForClose(code) {
  return BY_CLOSE_CODE[code] ?? "The server ended the connection.";
}
