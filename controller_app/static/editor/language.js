// JSON5 for CodeMirror: colours, indents and folding. What is wrong in a text is json5.js's to say.
import { HighlightStyle, StreamLanguage, foldService, syntaxHighlighting, tags } from "../vendor/codemirror.min.js";
import { parse } from "./json5.js";

const WORD = /^[^\s{}[\]:,"'/]+/u;

function token(stream, state) {
  if (state.comment) {
    if (stream.skipTo("*/")) {
      stream.match("*/");
      state.comment = false;
    } else {
      stream.skipToEnd();
    }
    return "comment";
  }
  if (state.quote) return inString(stream, state);
  if (stream.eatSpace()) return null;
  if (stream.match("//")) {
    stream.skipToEnd();
    return "comment";
  }
  if (stream.match("/*")) {
    state.comment = true;
    return "comment";
  }
  const character = stream.peek();
  if (character === '"' || character === "'") {
    stream.next();
    state.quote = character;
    state.isKey = new RegExp(`^(?:[^\\\\${character}]|\\\\.)*${character}\\s*:`).test(stream.string.slice(stream.pos));
    return inString(stream, state);
  }
  if ("{[".includes(character)) state.depth += 1;
  if ("}]".includes(character)) state.depth -= 1;
  if ("{}[]:,".includes(stream.next())) return character === ":" || character === "," ? "punctuation" : "bracket";
  stream.backUp(1);
  const word = stream.match(WORD)?.[0];
  if (!word) {
    stream.next();
    return "invalid";
  }
  if (/^\s*:/.test(stream.string.slice(stream.pos))) return "propertyName";
  if (/^(?:true|false|null)$/.test(word)) return "bool";
  return /^[+-]?(?:[\d.]|Infinity$|NaN$)/.test(word) ? "number" : "invalid";
}

function inString(stream, state) {
  while (!stream.eol()) {
    const character = stream.next();
    if (character === "\\") {
      if (stream.eol()) return state.isKey ? "propertyName" : "string"; // it goes on in the next line
      stream.next();
    } else if (character === state.quote) {
      break;
    }
  }
  state.quote = "";
  return state.isKey ? "propertyName" : "string";
}

export const json5 = StreamLanguage.define({
  name: "json5",
  startState: () => ({ comment: false, quote: "", isKey: false, depth: 0 }),
  token,
  indent: (state, after, context) => Math.max(state.depth - (/^\s*[}\]]/.test(after) ? 1 : 0), 0) * context.unit,
  languageData: { commentTokens: { line: "//", block: { open: "/*", close: "*/" } }, closeBrackets: { brackets: ["{", "[", '"', "'"] }, indentOnInput: /^\s*[}\]]$/ },
});

export const colours = syntaxHighlighting(
  HighlightStyle.define([
    { tag: tags.propertyName, color: "var(--code-key)" },
    { tag: tags.string, color: "var(--code-text)" },
    { tag: [tags.number, tags.bool], color: "var(--code-value)" },
    { tag: tags.comment, color: "var(--quiet)", fontStyle: "italic" },
    { tag: tags.invalid, color: "var(--bad)" },
  ]),
);

export const folding = foldService.of((state, lineStart, lineEnd) => {
  let found = null;
  const look = (node) => {
    if (node.from > lineEnd || node.to < lineStart || found) return;
    if (node.closed && node.from >= lineStart && node.to > lineEnd) found = { from: node.from + 1, to: node.to - 1 };
    for (const child of node.members?.map((member) => member.node) ?? node.items ?? []) look(child);
  };
  look(parsed(state).root);
  return found;
});

// The tree of a text, made once for each.
const trees = new WeakMap();
export function parsed(state) {
  if (!trees.has(state.doc)) trees.set(state.doc, parse(state.doc.toString()));
  return trees.get(state.doc);
}
