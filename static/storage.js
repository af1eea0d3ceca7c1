/**
 * What the browser keeps for this page. A browser may refuse (private mode, a full disk, a
 * policy); then the page works without, and only forgets sooner.
 */

const PREFIX = "tandem.";

/** The value kept under `name`, or null. */
export function readStored(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

/** Keeps `value`; says whether the browser did. */
export function writeStored(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function removeStored(name) {
  try {
    localStorage.removeItem(PREFIX + name);
  } catch {
    // Nothing was kept, so nothing has to go.
  }
}

/** The names kept that begin with `prefix`, in no particular order. */
export function storedNames(prefix) {
  try {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(PREFIX + prefix))
      .map((key) => key.slice(PREFIX.length));
  } catch {
    return [];
  }
}

/** Calls `onRemoved(name)` when another tab removes something under `prefix`. */
export function watchRemovals(prefix, onRemoved) {
  window.addEventListener("storage", (event) => {
    if (event.newValue === null && event.key?.startsWith(PREFIX + prefix)) {
      onRemoved(event.key.slice(PREFIX.length));
    }
  });
}
