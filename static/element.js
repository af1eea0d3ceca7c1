/** A DOM element in one expression. */

/** `attributes` are set as attributes, `children` are nodes or text; text is never parsed. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
