// What OpenClaw's JSON Schema (draft 7) says about a place and a value. It is read, never run: the pages may not evaluate code.
// Only what is certain is complained about; the bot's own OpenClaw has the last word before anything is saved.

const TYPES = {
  string: (node) => node.type === "string",
  boolean: (node) => node.type === "boolean",
  null: (node) => node.type === "null",
  object: (node) => node.type === "object",
  array: (node) => node.type === "array",
  number: (node) => node.type === "number",
  integer: (node) => node.type === "number" && Number.isInteger(node.value),
};
const REFERENCE = /\$\{[A-Z_][A-Z0-9_]*\}/;
const ALTERNATIVES = ["anyOf", "oneOf"];

export class Schema {
  // document: answer of /gateway/config/schema; managed: what stands in the configuration already.
  constructor(document, managed) {
    this.root = document.schema;
    this.hints = document.uiHints ?? {};
    this.version = document.version;
    this.managed = managed;
  }

  resolve(schema) {
    for (let hops = 0; schema && typeof schema.$ref === "string" && hops < 20; hops += 1) {
      schema = schema.$ref
        .replace(/^#\/?/, "")
        .split("/")
        .filter(Boolean)
        .reduce((at, part) => at?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")], this.root);
    }
    return schema && typeof schema === "object" ? schema : {};
  }

  // A schema and all that it may stand for.
  flat(schema, depth = 0) {
    const own = this.resolve(schema);
    const nested = [...ALTERNATIVES, "allOf"].flatMap((name) => own[name] ?? []);
    return depth > 8 ? [own] : [own, ...nested.flatMap((one) => this.flat(one, depth + 1))];
  }

  // All schemas that apply at a path.
  at(path) {
    return path.reduce((schemas, key) => schemas.flatMap((one) => this.below(one, key)), this.flat(this.root));
  }

  below(schema, key) {
    if (typeof key === "number") {
      const items = Array.isArray(schema.items) ? (schema.items[key] ?? schema.additionalItems) : schema.items;
      return items && typeof items === "object" ? this.flat(items) : [];
    }
    const found = this.member(schema, key);
    return found ? this.flat(found) : [];
  }

  member(schema, key) {
    if (schema.properties && Object.hasOwn(schema.properties, key)) return schema.properties[key];
    for (const [pattern, one] of Object.entries(schema.patternProperties ?? {})) if (matches(pattern, key)) return one;
    return typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
  }

  hint(path) {
    const names = path.map(String);
    if (this.hints[names.join(".")]) return this.hints[names.join(".")];
    return Object.entries(this.hints).find(([name]) => {
      const parts = name.split(".");
      return parts.length === names.length && parts.every((part, index) => part === "*" || part === names[index]);
    })?.[1];
  }

  // Title, description, type and choices of a place.
  describe(path) {
    const schemas = this.at(path);
    if (schemas.length === 0) return undefined;
    const first = (name) => schemas.find((one) => typeof one[name] === "string")?.[name];
    const hint = this.hint(path) ?? {};
    const types = new Set(schemas.flatMap((one) => one.type ?? []));
    const preset = schemas.find((one) => Object.hasOwn(one, "default"));
    return {
      path: path.join("."),
      title: first("title") ?? hint.label ?? "",
      description: first("description") ?? hint.help ?? "",
      types: [...types],
      choices: this.choices(path).map((one) => one.value),
      preset: preset === undefined ? undefined : JSON.stringify(preset.default),
    };
  }

  keys(path) {
    const found = new Map();
    for (const schema of this.at(path)) {
      for (const [key, one] of Object.entries(schema.properties ?? {})) {
        if (found.has(key)) continue;
        const flat = this.flat(one);
        const title = flat.find((each) => each.title)?.title ?? "";
        const description = flat.find((each) => each.description)?.description ?? "";
        found.set(key, { key, title, description, types: [...new Set(flat.flatMap((each) => each.type ?? []))] });
      }
    }
    return [...found.values()];
  }

  choices(path) {
    const found = new Map();
    for (const schema of this.at(path)) {
      const values = [...(schema.enum ?? []), ...(Object.hasOwn(schema, "const") ? [schema.const] : [])];
      if (schema.type === "boolean" && values.length === 0) values.push(true, false);
      for (const value of values) found.set(JSON.stringify(value), { value, description: schema.description ?? "" });
    }
    return [...found.values()];
  }

  // What speaks against a text: {from, to, path, message}.
  check(root) {
    return this.problems(this.root, root, [], this.managed);
  }

  problems(schema, node, path, managed) {
    if (node.type === "missing") return [];
    const own = this.resolve(schema);
    const found = [];
    const say = (message, at = node) => found.push({ from: at.from, to: at.to, path: path.join("."), message });
    // ${NAME} is put in before OpenClaw looks at it.
    const open = node.type === "string" && REFERENCE.test(node.value);
    const types = [own.type ?? []].flat();
    if (types.length > 0 && !open && !types.some((type) => TYPES[type]?.(node))) {
      say(`has to be ${types.map(named).join(" or ")}, not ${named(node.type)}`);
      return found;
    }
    if (!open) values(own, node, say);
    for (const name of ALTERNATIVES) if (own[name]) found.push(...this.alternatives(own[name], node, path, managed));
    for (const one of own.allOf ?? []) found.push(...this.problems(one, node, path, managed));
    if (node.type === "object") found.push(...this.members(own, node, path, managed));
    if (node.type === "array") {
      node.items.forEach((item, index) => {
        const one = Array.isArray(own.items) ? (own.items[index] ?? own.additionalItems) : own.items;
        if (one && typeof one === "object") found.push(...this.problems(one, item, [...path, index], undefined));
      });
    }
    return found;
  }

  members(own, node, path, managed) {
    const found = [];
    for (const { key, keyFrom, keyTo, node: value } of node.members) {
      const place = { from: keyFrom, to: keyTo, path: [...path, key].join(".") };
      const one = this.member(own, key);
      if (one) found.push(...this.problems(one, value, [...path, key], managed?.[key]));
      else if (own.additionalProperties === false) found.push({ ...place, message: `there is no setting ${key} here${similar(key, own)}` });
      if (own.propertyNames?.pattern && !matches(own.propertyNames.pattern, key)) found.push({ ...place, message: `${key} is no name that may stand here` });
    }
    const present = new Set([...node.members.map((member) => member.key), ...Object.keys(managed ?? {})]);
    for (const key of own.required ?? []) {
      // What has a default is there after OpenClaw has read the text, and need not stand in it.
      const preset = this.flat(own.properties?.[key]).some((one) => Object.hasOwn(one, "default"));
      if (!preset && !present.has(key)) found.push({ from: node.from, to: node.from + 1, path: path.join("."), message: `${key} is missing` });
    }
    return found;
  }

  // If none fits, what the one says that fits best.
  alternatives(schemas, node, path, managed) {
    const answers = schemas.map((one) => this.problems(one, node, path, managed));
    if (answers.some((answer) => answer.length === 0)) return [];
    const choices = schemas.map((one) => this.resolve(one));
    if (node.type !== "object" && node.type !== "array" && choices.every((one) => Object.hasOwn(one, "const") || one.enum)) {
      const wanted = choices.flatMap((one) => one.enum ?? [one.const]).map((one) => JSON.stringify(one));
      return [{ from: node.from, to: node.to, path: path.join("."), message: `has to be one of ${wanted.join(", ")}` }];
    }
    const deeper = (answer) => Math.max(...answer.map((problem) => problem.path.length * 1000 - answer.length));
    return answers.reduce((best, answer) => (deeper(answer) > deeper(best) ? answer : best));
  }
}

function values(own, node, say) {
  const { value } = node;
  if (own.enum && !own.enum.includes(value)) say(`has to be one of ${own.enum.map((one) => JSON.stringify(one)).join(", ")}`);
  if (Object.hasOwn(own, "const") && own.const !== value) say(`has to be ${JSON.stringify(own.const)}`);
  if (node.type === "number") {
    if (value < own.minimum || value <= own.exclusiveMinimum) say(`has to be ${own.minimum === undefined ? "more than" : "at least"} ${own.minimum ?? own.exclusiveMinimum}`);
    if (value > own.maximum || value >= own.exclusiveMaximum) say(`has to be ${own.maximum === undefined ? "less than" : "at most"} ${own.maximum ?? own.exclusiveMaximum}`);
  }
  if (node.type === "string") {
    if (value.length < own.minLength) say(own.minLength === 1 ? "must not be empty" : `has to have ${own.minLength} characters at least`);
    if (value.length > own.maxLength) say(`has ${value.length} characters, at most ${own.maxLength} are taken`);
    if (own.pattern && !matches(own.pattern, value)) say(`has to be of the form ${own.pattern}`);
  }
  if (node.type === "array") {
    if (node.items.length < own.minItems) say(`has to have ${own.minItems} elements at least`);
    if (node.items.length > own.maxItems) say(`has ${node.items.length} elements, at most ${own.maxItems} are taken`);
  }
}

function named(type) {
  return { object: "an object in braces", array: "a list in brackets", string: "a text in quotes", integer: "a whole number", number: "a number", boolean: "true or false" }[type] ?? type;
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true; // a pattern that this browser cannot read refuses nothing
  }
}

function similar(key, own) {
  const known = Object.keys(own.properties ?? {});
  const near = known.find((one) => one.toLowerCase() === key.toLowerCase() || distance(one, key) === 1);
  return near ? `; ${near} is there` : "";
}

// 1 if one character more, less or other makes them equal, or two that changed places; 2 for anything else.
function distance(left, right) {
  if (Math.abs(left.length - right.length) > 1) return 2;
  let begin = 0;
  while (begin < left.length && left[begin] === right[begin]) begin += 1;
  const rest = [left.slice(begin), right.slice(begin)];
  const equal = rest[0].slice(1) === rest[1] || rest[0] === rest[1].slice(1) || rest[0].slice(1) === rest[1].slice(1);
  return equal || rest[0][1] + rest[0][0] + rest[0].slice(2) === rest[1] ? 1 : 2;
}
