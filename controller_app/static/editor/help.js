// Completion, hover and complaints from the schema.
import { locate } from "./json5.js";
import { parsed } from "./language.js";

const NAME = /^[A-Za-z_$][\w$]*$/;

// schema: a function, because it comes after the editor.
export function completing(schema) {
  return (context) => {
    const known = schema();
    if (!known) return null;
    const { root } = parsed(context.state);
    const place = locate(root, context.pos);
    const word = context.matchBefore(/["']?[\w$.-]*$/) ?? { from: context.pos, text: "" };
    if (inComment(context.state, context.pos)) return null;
    if (place.kind === "key" && place.node?.type === "object") {
      if (!word.text && !context.explicit) return null;
      return keys(known, place, word);
    }
    if (place.kind !== "value" || (!word.text && !context.explicit)) return null;
    return choices(known, place, word);
  };
}

function keys(schema, place, word) {
  const taken = new Set(place.node.members.filter((member) => member !== place.member).map((member) => member.key));
  const options = schema
    .keys(place.path)
    .filter((one) => !taken.has(one.key))
    .map((one) => ({
      label: one.key,
      type: "property",
      detail: one.types.join(" or "),
      info: one.description || one.title || undefined,
      apply: place.member?.colon ? quoted(one.key) : `${quoted(one.key)}: `,
    }));
  return options.length === 0 ? null : { from: word.from, options, filter: true, validFor: /^["']?[\w$.-]*$/ };
}

function choices(schema, place, word) {
  const options = schema.choices(place.path).map((one, index) => ({ label: JSON.stringify(one.value), type: "enum", boost: -index }));
  const types = new Set(schema.describe(place.path)?.types ?? []);
  if (types.has("object")) options.push({ label: "{}", type: "constant" });
  if (types.has("array")) options.push({ label: "[]", type: "constant" });
  if (options.length === 0) return null;
  const bare = /^["']/.test(word.text) ? options : options.map((one) => ({ ...one, apply: one.label }));
  return { from: word.from, to: closingQuote(place, word), options: bare, validFor: /^["']?[\w$.-]*$/ };
}

// A quote that was typed brings its partner, which the completion replaces as well.
function closingQuote(place, word) {
  return /^["']/.test(word.text) && place.node?.type === "string" && place.node.from === word.from ? place.node.to : undefined;
}

function quoted(key) {
  return NAME.test(key) ? key : JSON.stringify(key);
}

function inComment(state, position) {
  const line = state.doc.lineAt(position);
  return /(?:^|[\s,{}[\]])\/\//.test(line.text.slice(0, position - line.from).replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, ""));
}

export function hovering(schema) {
  return (view, position) => {
    const known = schema();
    if (!known) return null;
    const { root } = parsed(view.state);
    const place = locate(root, position);
    const path = place.kind === "key" && place.member ? [...place.path, place.member.key] : place.path;
    const found = path.length > 0 && (place.member || place.node) ? known.describe(path) : undefined;
    if (!found) return null;
    const from = place.kind === "key" ? place.member?.keyFrom : place.node?.from;
    const to = place.kind === "key" ? place.member?.keyTo : place.node?.to;
    if (from === undefined) return null;
    return { pos: from, end: to, above: true, create: () => ({ dom: card(found) }) };
  };
}

function card(found) {
  const dom = document.createElement("div");
  dom.className = "help";
  const add = (tag, text) => {
    if (!text) return;
    const element = dom.appendChild(document.createElement(tag));
    element.textContent = text;
  };
  add("strong", found.title || found.path);
  add("code", found.path);
  add("p", found.description);
  add("p", found.types.length > 0 ? `Type: ${found.types.join(" or ")}.` : "");
  add("p", found.choices.length > 0 ? `One of ${found.choices.map((one) => JSON.stringify(one)).join(", ")}.` : "");
  add("p", found.preset ? `Default: ${found.preset}` : "");
  return dom;
}

// What is wrong as far as that can be said here, in the order of the text.
export function complaints(state, schema) {
  const { root, errors } = parsed(state);
  const found = errors.slice(0, 20).map((error) => ({ ...error, path: "", source: "JSON5" }));
  if (found.length === 0 && root.type !== "object") {
    found.push({ from: 0, to: 1, path: "", message: "the file has to hold one object, in braces", source: "JSON5" });
  }
  // One that is not read to its end would be complained about twice.
  if (found.length === 0 && schema) {
    for (const problem of schema.check(root)) found.push({ ...problem, source: "schema" });
  }
  return found.sort((left, right) => left.from - right.from).slice(0, 100);
}
