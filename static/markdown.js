/**
 * Markdown as replies use it: paragraphs, headings, lists, quotations, code, rules. A small
 * subset on purpose; no HTML, no images. Text that is still growing may be drawn again and again:
 * only the blocks that changed are replaced, so that a selection above them survives.
 */

import { codeBlock } from "./code_block.js";
import { inlineNodes } from "./inline.js";

const DEEPEST = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
const BLANK = /^[ \t]*$/;

/** The source of each element drawn, to see what changed. */
const sources = new WeakMap();

/** Makes `container` show `text`. */
export function renderMarkdown(container, text) {
  const blocks = splitBlocks(text.split(/\r\n|\r|\n/));
  let kept = 0;
  const drawn = [...container.children];
  while (kept < blocks.length && kept < drawn.length) {
    if (sources.get(drawn[kept]) !== sourceOf(blocks[kept])) break;
    kept += 1;
  }
  for (const element of drawn.slice(kept)) element.remove();
  for (const block of blocks.slice(kept)) {
    const element = blockElement(block, 0);
    sources.set(element, sourceOf(block));
    container.append(element);
  }
}

function sourceOf(block) {
  return `${block.kind}\n${block.info ?? ""}\n${block.lines.join("\n")}`;
}

/** Lines as blocks: {kind, lines, info?}. */
function splitBlocks(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const read = reading(line);
    if (read === null) {
      at += 1;
      continue;
    }
    const [block, end] = read(lines, at);
    blocks.push(block);
    at = end;
  }
  return blocks;
}

/** How to read the block that begins with `line`; null for a blank one. */
function reading(line) {
  if (BLANK.test(line)) return null;
  if (FENCE.test(line)) return readCode;
  if (HEADING.test(line) || RULE.test(line)) return readLine;
  if (QUOTE.test(line)) return readQuote;
  return ITEM.test(line) ? readList : readParagraph;
}

function readLine(lines, at) {
  return [{ kind: HEADING.test(lines[at]) ? "heading" : "rule", lines: [lines[at]] }, at + 1];
}

function readCode(lines, at) {
  const [, fence, info] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !closes(lines[end].trim(), fence)) end += 1;
  // A fence that is not closed yet: the rest is code, as it will be once the reply is there.
  return [{ kind: "code", info, lines: lines.slice(at + 1, end) }, end + 1];
}

function closes(line, fence) {
  return line.length >= fence.length && line === fence[0].repeat(line.length);
}

function readQuote(lines, at) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  return [{ kind: "quote", lines: lines.slice(at, end) }, end];
}

function readParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && continuesParagraph(lines[end])) end += 1;
  return [{ kind: "paragraph", lines: lines.slice(at, end) }, end];
}

function continuesParagraph(line) {
  return reading(line) === readParagraph;
}

/** A list goes on over its items' indented lines, and over single blank lines between items. */
function readList(lines, at) {
  const ordered = isOrdered(lines[at]);
  let end = at + 1;
  for (let next = end; next < lines.length; next += 1) {
    const line = lines[next];
    const before = BLANK.test(lines[next - 1]);
    if (BLANK.test(line)) {
      if (before) break;
      continue;
    }
    const belongs =
      /^( {2,}|\t)/.test(line) ||
      (ITEM.test(line) && !RULE.test(line) && isOrdered(line) === ordered) ||
      (!before && reading(line) === readParagraph);
    if (!belongs) break;
    end = next + 1;
  }
  return [{ kind: "list", lines: lines.slice(at, end) }, end];
}

function isOrdered(line) {
  return /\d/.test(ITEM.exec(line)[2]);
}

function blockElement(block, depth) {
  switch (block.kind) {
    case "code":
      return codeBlock(block.lines.join("\n"), block.info);
    case "rule":
      return document.createElement("hr");
    case "heading": {
      const [, marks, text] = HEADING.exec(block.lines[0]);
      // The page's own headings are h1 and h2: a reply's begin below them.
      return filled(`h${Math.min(6, marks.length + 2)}`, inlineNodes(text));
    }
    case "quote":
      return nested("blockquote", block.lines.map((line) => line.replace(QUOTE, "")), depth);
    case "list":
      return listElement(block.lines, depth);
    default:
      return filled("p", inlineNodes(block.lines.map((line) => line.trim()).join("\n")));
  }
}

function listElement(lines, depth) {
  const ordered = isOrdered(lines[0]);
  const list = document.createElement(ordered ? "ol" : "ul");
  if (ordered) list.start = Number.parseInt(ITEM.exec(lines[0])[2], 10);
  // The first item's own indentation is where items begin; deeper ones are lists within.
  const margin = ITEM.exec(lines[0])[1].length;
  const items = [];
  let width = 0;
  for (const line of lines) {
    const match = ITEM.exec(line);
    if (match && match[1].length < margin + 2) {
      width = match[0].length;
      items.push([line.slice(width)]);
    } else {
      items.at(-1).push(dedented(line, width));
    }
  }
  for (const item of items) list.append(listItem(item, depth));
  return list;
}

function listItem(lines, depth) {
  const blocks = depth < DEEPEST ? splitBlocks(lines) : [{ kind: "paragraph", lines }];
  const item = document.createElement("li");
  blocks.forEach((block, index) => {
    const element = blockElement(block, depth + 1);
    // The line behind the bullet stands in the item itself, without a paragraph's margins.
    if (index === 0 && block.kind === "paragraph") item.append(...element.childNodes);
    else item.append(element);
  });
  return item;
}

function dedented(line, width) {
  const indent = /^[ \t]*/.exec(line)[0];
  return line.slice(indent.startsWith("\t") ? 1 : Math.min(indent.length, width));
}

function nested(name, lines, depth) {
  const blocks = depth < DEEPEST ? splitBlocks(lines) : [{ kind: "paragraph", lines }];
  return filled(name, blocks.map((block) => blockElement(block, depth + 1)));
}

function filled(name, nodes) {
  const element = document.createElement(name);
  element.append(...nodes);
  return element;
}
