/** A block of code with a button that copies it. */

const SHOWN_FOR_MS = 2_000;

export function codeBlock(text, language) {
  const figure = document.createElement("figure");
  figure.className = "code";
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = language || "code";
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy this code");
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  const code = document.createElement("code");
  code.textContent = text;
  pre.append(code);
  caption.append(name, button);
  figure.append(caption, pre);
  button.addEventListener("click", () => copy(code, button));
  return figure;
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers give the clipboard to secure pages only: select the code, the rest is one key.
    window.getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => {
    button.textContent = "Copy";
  }, SHOWN_FOR_MS);
}
