/**
 * Markdown inside a line: code, bold, italics, links. Builds nodes whose text is set as text;
 * nothing that a model or a person wrote is ever parsed as HTML.
 */

const DEEPEST = 6;
const SPECIAL = /[\\`*_[\n]|https?:\/\//g;
const LINK = /\[([^\]\n]{1,500})\]\(([^()\s]{1,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,2000})?)\)/y;
const ADDRESS = /https?:\/\/[^\s<>"'`]{1,2000}/y;
const ESCAPABLE = /[\\`*_[\](){}#+\-.!|>~]/;
const WORD = /[\p{L}\p{N}_]/u;

/** `text` as DOM nodes. */
export function inlineNodes(text, depth = 0) {
  return new Line(text, depth).nodes();
}

class Line {
  #nodes = [];
  #plain = "";
  /** Where each delimiter is known not to occur any more: unclosed ones cost one search in all. */
  #absentFrom = new Map();

  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
  }

  nodes() {
    let at = 0;
    while (at < this.text.length) {
      SPECIAL.lastIndex = at;
      const special = SPECIAL.exec(this.text);
      if (special === null) break;
      this.#plain += this.text.slice(at, special.index);
      at = this.#take(special[0], special.index);
    }
    this.#plain += this.text.slice(at);
    this.#flush();
    return this.#nodes;
  }

  /** Takes what begins at `at`; returns where the rest begins. */
  #take(special, at) {
    const end =
      special === "\\" ? this.#escape(at)
      : special === "`" ? this.#code(at)
      : special === "[" ? this.#link(at)
      : special === "\n" ? this.#add(document.createElement("br"), at + 1)
      : special === "*" || special === "_" ? this.#emphasis(special, at)
      : this.#address(at);
    if (end !== null) return end;
    this.#plain += special;
    return at + special.length;
  }

  #escape(at) {
    const next = this.text[at + 1];
    if (next === undefined || !ESCAPABLE.test(next)) return null;
    this.#plain += next;
    return at + 2;
  }

  #code(at) {
    let fence = "`";
    while (this.text[at + fence.length] === "`") fence += "`";
    const begin = at + fence.length;
    const end = this.#find(fence, begin);
    if (end < 0) {
      this.#plain += fence;
      return begin;
    }
    const code = document.createElement("code");
    code.textContent = this.text.slice(begin, end).replace(/^ (.+) $/s, "$1");
    return this.#add(code, end + fence.length);
  }

  #emphasis(mark, at) {
    const double = this.text[at + 1] === mark;
    const delimiter = double ? mark + mark : mark;
    const begin = at + delimiter.length;
    if (this.depth >= DEEPEST || /\s|^$/.test(this.text[begin] ?? "")) return null;
    if (mark === "_" && at > 0 && WORD.test(this.text[at - 1])) return null;
    let end = this.#closing(delimiter, begin);
    if (end < 0) {
      this.#plain += delimiter;
      return begin;
    }
    // Of three in a row the first closes what was opened last, inside.
    if (double && this.text[end + 2] === mark) end += 1;
    const element = document.createElement(double ? "strong" : "em");
    element.append(...inlineNodes(this.text.slice(begin, end), this.depth + 1));
    return this.#add(element, end + delimiter.length);
  }

  /** Where emphasis ends: not after a space, `_` not inside a word, `*` not as half of `**`. */
  #closing(delimiter, begin) {
    let end = this.#find(delimiter, begin + 1);
    while (end >= 0) {
      const after = this.text[end + delimiter.length] ?? "";
      const twin = delimiter.length === 1 && after === delimiter;
      const inWord = delimiter[0] === "_" && WORD.test(after);
      if (!twin && !inWord && !/\s/.test(this.text[end - 1])) return end;
      end = this.#find(delimiter, end + (twin ? 2 : 1));
    }
    return -1;
  }

  #link(at) {
    LINK.lastIndex = at;
    const match = LINK.exec(this.text);
    const link = match && this.depth < DEEPEST ? anchor(match[2]) : null;
    if (link === null) return null;
    link.append(...inlineNodes(match[1], DEEPEST));
    return this.#add(link, at + match[0].length);
  }

  #address(at) {
    ADDRESS.lastIndex = at;
    // Punctuation behind an address ends the sentence, not the address.
    const address = ADDRESS.exec(this.text)?.[0].replace(/[.,;:!?)\]*_]+$/, "") ?? "";
    const link = this.depth < DEEPEST ? anchor(address) : null;
    if (link === null) return null;
    link.textContent = address;
    return this.#add(link, at + address.length);
  }

  #find(delimiter, from) {
    if (from >= (this.#absentFrom.get(delimiter) ?? Infinity)) return -1;
    const index = this.text.indexOf(delimiter, from);
    if (index < 0) this.#absentFrom.set(delimiter, from);
    return index;
  }

  #add(node, end) {
    this.#flush();
    this.#nodes.push(node);
    return end;
  }

  #flush() {
    if (this.#plain !== "") this.#nodes.push(document.createTextNode(this.#plain));
    this.#plain = "";
  }
}

/** A link that may be followed, or null: only http and https, and nothing of this page goes along. */
function anchor(address) {
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return null;
  const link = document.createElement("a");
  link.href = address;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  return link;
}
