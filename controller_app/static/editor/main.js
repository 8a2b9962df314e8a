// Makes the field of the configuration an editor. The form stays what it is: what is typed goes back into the field.
import {
  EditorState, EditorView, StateEffect, autocompletion, bracketMatching, closeBrackets, closeBracketsKeymap, completionKeymap, defaultKeymap, drawSelection,
  foldGutter, foldKeymap, forceLinting, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, history, historyKeymap,
  hoverTooltip, indentUnit, isolateHistory, keymap, lineNumbers, lintGutter, lintKeymap, linter, search, searchKeymap,
} from "../vendor/codemirror.min.js";
import { completing, complaints, hovering } from "./help.js";
import { colours, folding, json5 } from "./language.js";
import { Schema } from "./schema.js";
import { theme } from "./theme.js";

const form = document.getElementById("config");
const field = document.getElementById("text");
const list = document.getElementById("problem-list");
const state = document.getElementById("state");
const root = form.dataset.root;
const draftName = `configuration of ${form.dataset.bot}`;
let schema;
let saved = field.value;
// What OpenClaw said, and of which text.
let said = { text: undefined, problems: [] };
let leaving = false;
// The last word on what was asked for, until something is typed.
let word = "";
const refresh = StateEffect.define();

const view = makeEditor();
if (list.dataset.from) said = { text: field.value, problems: [...list.children].map((item) => ({ ...item.dataset })) };
look();
loadSchema();
offerDraft();

function makeEditor() {
  const host = document.getElementById("editor");
  // In a tree of its own, because CodeMirror's styles are then sheets that it hands over: the policy forbids style elements.
  const shadow = host.attachShadow({ mode: "open" });
  const parent = shadow.appendChild(document.createElement("div"));
  const made = new EditorView({
    parent,
    root: shadow,
    state: EditorState.create({ doc: field.value, extensions: extensions() }),
  });
  field.hidden = true;
  host.hidden = false;
  document.getElementById("text-label").addEventListener("click", () => made.focus());
  document.getElementById("hint").hidden = false;
  return made;
}

function extensions() {
  return [
    lineNumbers(), foldGutter(), folding, history(), drawSelection(), highlightSpecialChars(), bracketMatching(), closeBrackets(),
    highlightActiveLine(), highlightActiveLineGutter(), search({ top: true }), lintGutter(), indentUnit.of("  "), json5, colours, theme,
    autocompletion({ override: [completing(() => schema)] }),
    hoverTooltip(hovering(() => schema), { hoverTime: 200 }),
    linter(diagnose, { delay: 300, needsRefresh: (update) => update.transactions.some((one) => one.effects.some((effect) => effect.is(refresh))) }),
    keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...foldKeymap, ...completionKeymap, ...lintKeymap]),
    EditorView.lineWrapping,
    EditorView.contentAttributes.of({ "aria-label": "operator.json5", "aria-describedby": "hint", spellcheck: "false" }),
    EditorView.updateListener.of((update) => {
      if (!update.docChanged) return;
      field.value = update.state.doc.toString();
      word = "";
    }),
  ];
}

function diagnose() {
  const text = view.state.doc.toString();
  const own = complaints(view.state, schema);
  // What OpenClaw said of another text is about other lines.
  const found = own.length === 0 && said.text === text ? said.problems.map(placed) : own;
  show(found, text);
  return found.map(({ from, to, message, source }) => ({ from, to: Math.min(to, text.length), message, source, severity: "error" }));
}

// A problem with line and column as one with positions.
function placed({ line, column, path, message }) {
  const doc = view.state.doc;
  const number = Math.min(Math.max(Number(line), 1), doc.lines);
  const at = doc.line(number);
  const from = Math.min(at.from + Math.max(Number(column) - 1, 0), at.to);
  return { from, to: at.to, path, message, source: "OpenClaw", nowhere: Number(line) === 0 };
}

function show(found, text) {
  list.replaceChildren(...found.map((problem) => entry(problem)));
  if (word) state.textContent = word;
  else if (found.length > 0) state.textContent = `${found.length} found by ${found[0].source === "schema" ? "the schema of this OpenClaw" : found[0].source}.`;
  else if (said.text === text) state.textContent = "OpenClaw takes this text.";
  else state.textContent = schema ? "None found while typing. OpenClaw itself looks before anything is saved." : "None found in the form of the text.";
}

function entry({ from, path, message, nowhere }) {
  const item = document.createElement("li");
  const line = view.state.doc.lineAt(Math.min(from, view.state.doc.length)).number;
  if (!nowhere) {
    const link = item.appendChild(document.createElement("a"));
    link.href = "#editor";
    link.textContent = `Line ${line}`;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      jump(from);
    });
    item.append(" ");
  }
  if (path) item.appendChild(document.createElement("code")).textContent = path;
  item.append(` ${message} `);
  if (form.dataset.link && !nowhere) {
    const link = item.appendChild(document.createElement("a"));
    link.href = form.dataset.link.replace("{line}", line);
    link.textContent = "Open in editor";
  }
  return item;
}

function jump(position) {
  const anchor = Math.min(position, view.state.doc.length);
  view.dispatch({ selection: { anchor }, effects: EditorView.scrollIntoView(anchor, { y: "center" }) });
  view.focus();
}

async function loadSchema() {
  const shown = document.getElementById("schema");
  try {
    const answer = await fetch(`${root}/gateway/config/schema`, { headers: { Accept: "application/json" } });
    if (!answer.ok) {
      // A gateway that starts has it in a moment.
      if (answer.status === 503 || answer.status === 504) setTimeout(loadSchema, 10_000);
      throw new Error((await answer.json()).detail);
    }
    schema = new Schema(await answer.json(), managed());
    shown.textContent = `Names and values are those of OpenClaw ${schema.version}.`;
  } catch (error) {
    shown.textContent = `Without completion: ${error.message}`;
  }
  look();
}

// What is wrong is to be looked at again although the text is the same.
function look() {
  view.dispatch({ effects: refresh.of(null) });
  forceLinting(view);
}

function managed() {
  try {
    return JSON.parse(document.getElementById("managed").textContent);
  } catch {
    return undefined; // then what is missing in a text is complained about although it stands there
  }
}

async function send(path, body) {
  const answer = await fetch(`${root}/gateway/config/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  const document_ = await answer.json();
  if (!answer.ok) throw new Error(document_.detail);
  return document_;
}

// Replace what differs, so that the cursor stays and one step takes it back.
function replace(text) {
  const before = view.state.doc.toString();
  let from = 0;
  while (from < Math.min(before.length, text.length) && before[from] === text[from]) from += 1;
  let end = 0;
  while (end < Math.min(before.length, text.length) - from && before.at(-1 - end) === text.at(-1 - end)) end += 1;
  view.dispatch({ changes: { from, to: before.length - end, insert: text.slice(from, text.length - end) }, annotations: isolateHistory.of("full") });
  return from;
}

async function doing(button, words, work) {
  if (button.getAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  state.textContent = words;
  const text = view.state.doc.toString();
  try {
    word = await work(text);
  } catch (error) {
    word = error.message;
  } finally {
    button.removeAttribute("aria-disabled");
  }
  look();
}

document.getElementById("check").addEventListener("click", (event) => {
  event.preventDefault();
  doing(event.currentTarget, "OpenClaw looks at it, which takes some seconds…", async (text) => {
    const { problems } = await send("validate", { text });
    said = { text, problems };
    return "";
  });
});

document.getElementById("format").addEventListener("click", (event) => {
  event.preventDefault();
  doing(event.currentTarget, "Formatting…", async (text) => {
    const changed = (await send("format", { text })).text;
    if (view.state.doc.toString() !== text) return "The text was changed meanwhile; format it again.";
    replace(changed);
    return "Formatted. Nothing is saved yet.";
  });
});

form.addEventListener("click", (event) => {
  const button = event.target.closest("button[name=add]");
  if (!button) return;
  event.preventDefault();
  doing(button, "Adding…", async (text) => {
    const wanted = JSON.parse(button.value);
    const changed = (await send("ollama", { ...wanted, text })).text;
    if (view.state.doc.toString() !== text) return "The text was changed meanwhile; add it again.";
    jump(replace(changed));
    return `${wanted.model} is in the text now. Nothing is saved yet.`;
  });
});

form.addEventListener("submit", () => {
  leaving = true;
  try {
    sessionStorage.setItem(draftName, field.value);
  } catch {
    // A browser that keeps nothing offers nothing.
  }
});

window.addEventListener("beforeunload", (event) => {
  if (!leaving && field.value !== saved) event.preventDefault();
});

// A text that the machine refused, or put back, is still here when one comes back to the page.
function offerDraft() {
  const draft = sessionStorage.getItem(draftName);
  const note = document.getElementById("draft");
  if (!draft || draft.replaceAll("\r\n", "\n") === view.state.doc.toString()) return;
  note.hidden = false;
  document.getElementById("take-draft").addEventListener("click", () => {
    replace(draft);
    note.hidden = true;
    view.focus();
  });
  document.getElementById("drop-draft").addEventListener("click", () => {
    sessionStorage.removeItem(draftName);
    note.hidden = true;
  });
}
