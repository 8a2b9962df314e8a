// Reads JSON5 with the place of each part, and goes on after an error, because a text that is being typed is full of them. What it
// takes and what it says is what module_utils/clawfactory_core/json5.py does; a test compares the two.

const BLANK = /(?:[\s\ufeff]|\/\/[^\n\r\u2028\u2029]*|\/\*[^]*?\*\/)*/uy;
const NUMBER = /[+-]?(?:Infinity|NaN|0[xX][0-9a-fA-F]+|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w$.])/y;
const NAME = /[\p{L}\p{N}\p{M}$_][\p{L}\p{N}\p{M}$_\u200c\u200d]*/uy;
const PLAIN = /[^\\\n\r"']+/y;
const WORDS = new Map([["true", true], ["false", false], ["null", null]]);
const ESCAPES = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", 0: "\0" };
const DEEPEST = 100;

// A node: type, from, to, value; an object has members {key, keyFrom, keyTo, colon, node}, a list has items.
export function parse(text) {
  const reader = new Reader(text);
  const root = reader.value(0);
  reader.skip();
  if (reader.at < text.length) reader.fail("something comes after the end", reader.at, text.length);
  return { root, errors: reader.errors };
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.errors = [];
  }

  fail(message, from = this.at, to = Math.min(from + 1, this.text.length)) {
    this.errors.push({ message, from, to: Math.max(to, from) });
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    return pattern.exec(this.text)?.[0];
  }

  skip() {
    this.at += this.match(BLANK)?.length ?? 0;
    if (this.text.startsWith("/*", this.at)) {
      this.fail("a comment that begins here does not end", this.at, this.text.length);
      this.at = this.text.length;
    }
  }

  peek() {
    this.skip();
    return this.text[this.at] ?? "";
  }

  value(depth) {
    const character = this.peek();
    const from = this.at;
    if (depth > DEEPEST) {
      this.fail(`it is nested deeper than ${DEEPEST} levels`);
      this.at = this.text.length;
      return { type: "missing", from, to: from };
    }
    if (character === "{") return this.object(depth);
    if (character === "[") return this.list(depth);
    if (character === '"' || character === "'") return { type: "string", from, value: this.string(), to: this.at };
    const number = this.match(NUMBER);
    if (number) {
      this.at += number.length;
      const digits = number.replace(/^[+-]/, "");
      return { type: "number", from, to: this.at, value: (number[0] === "-" ? -1 : 1) * Number(digits) };
    }
    const word = this.match(NAME);
    if (word && WORDS.has(word)) {
      this.at += word.length;
      const value = WORDS.get(word);
      return { type: value === null ? "null" : "boolean", from, to: this.at, value };
    }
    if (["", "}", "]", ","].includes(character)) {
      this.fail("a value is missing");
      return { type: "missing", from, to: from };
    }
    while (this.at < this.text.length && !/[\s,{}[\]:"'/]/.test(this.text[this.at])) this.at += 1;
    if (this.at === from) this.at += 1;
    this.fail("this is no value", from, this.at);
    return { type: "missing", from, to: this.at };
  }

  object(depth) {
    const node = { type: "object", from: this.at, members: [] };
    const seen = new Set();
    this.at += 1;
    while (this.peek() !== "}") {
      const before = this.at;
      if (this.at >= this.text.length) {
        this.fail("a key is missing");
        break;
      }
      const keyFrom = this.at;
      const key = this.key();
      if (key === undefined) {
        this.fail("a key is missing");
        this.recover("}");
        if (this.text[this.at] === ",") this.at += 1;
        if (this.at === before) this.at += 1; // a bracket that is not ours
        continue;
      }
      const member = { key, keyFrom, keyTo: this.at };
      if (seen.has(key)) this.fail(`the key '${key.slice(0, 80)}' is there twice`, keyFrom, this.at);
      seen.add(key);
      node.members.push(member);
      member.colon = this.peek() === ":";
      if (member.colon) {
        this.at += 1;
        member.node = this.value(depth + 1);
      } else {
        this.fail("a colon is missing after the key");
        member.node = { type: "missing", from: this.at, to: this.at };
      }
      if (this.peek() === ",") {
        this.at += 1;
      } else if (this.peek() !== "}") {
        if (!this.errors.some((error) => error.from === this.at)) this.fail("a comma or a closing brace is missing");
        if (member.colon && this.key(true)) continue; // the next member, as if the comma were there
        this.recover("}");
        if (this.text[this.at] === ",") this.at += 1;
      }
      if (this.at === before) this.at += 1;
    }
    return this.close(node, "}");
  }

  list(depth) {
    const node = { type: "array", from: this.at, items: [] };
    this.at += 1;
    while (this.peek() !== "]") {
      const before = this.at;
      if (this.at >= this.text.length) {
        this.fail("a value is missing");
        break;
      }
      node.items.push(this.value(depth + 1));
      if (this.peek() === ",") {
        this.at += 1;
      } else if (this.peek() !== "]") {
        if (!this.errors.some((error) => error.from === this.at)) this.fail("a comma or a closing bracket is missing");
        this.recover("]");
        if (this.text[this.at] === ",") this.at += 1;
      }
      if (this.at === before) this.at += 1;
    }
    return this.close(node, "]");
  }

  close(node, bracket) {
    node.closed = this.text[this.at] === bracket;
    if (node.closed) this.at += 1;
    node.to = this.at;
    return node;
  }

  // To the next comma or closing bracket of this level.
  recover(bracket) {
    let depth = 0;
    while (this.at < this.text.length) {
      this.skip();
      const character = this.text[this.at];
      if (character === undefined) return;
      if (depth === 0 && (character === "," || character === bracket)) return;
      if (character === '"' || character === "'") {
        const known = this.errors.length;
        this.string();
        this.errors.length = known;
        continue;
      }
      if (character === "{" || character === "[") depth += 1;
      if (character === "}" || character === "]") depth = Math.max(depth - 1, 0);
      this.at += 1;
    }
  }

  key(look = false) {
    const character = this.peek();
    if (character === '"' || character === "'") return look ? true : this.string();
    const name = this.match(NAME);
    if (!name || /^\p{N}/u.test(name)) return undefined;
    if (!look) this.at += name.length;
    return name;
  }

  string() {
    const begin = this.at;
    const quote = this.text[begin];
    const parts = [];
    this.at += 1;
    for (;;) {
      const plain = this.match(PLAIN);
      if (plain) {
        parts.push(plain);
        this.at += plain.length;
      }
      const character = this.text[this.at] ?? "";
      if (character === "\\") {
        parts.push(this.escape());
      } else if (["", "\n", "\r"].includes(character)) {
        this.fail("a text that begins here does not end on its line", begin, this.at);
        return parts.join("");
      } else {
        this.at += 1;
        if (character === quote) return parts.join("");
        parts.push(character);
      }
    }
  }

  escape() {
    const following = this.text[this.at + 1] ?? "";
    const digits = { x: 2, u: 4 }[following];
    if (digits) {
      const code = this.text.slice(this.at + 2, this.at + 2 + digits);
      if (code.length === digits && /^[0-9a-fA-F]+$/.test(code)) {
        this.at += 2 + digits;
        return String.fromCharCode(Number.parseInt(code, 16));
      }
      this.fail(`after \\${following} come ${digits} hexadecimal digits`);
      this.at += 2;
      return "";
    }
    if (/\d/.test(following) && !(following === "0" && !/\d/.test(this.text[this.at + 2] ?? ""))) {
      this.fail("a digit cannot be escaped");
      this.at += 2;
      return "";
    }
    this.at = Math.min(this.at + (this.text.startsWith("\r\n", this.at + 1) ? 3 : 2), this.text.length);
    return ["\n", "\r", "\u2028", "\u2029"].includes(following) ? "" : (ESCAPES[following] ?? following);
  }
}

// The plain value, for comparing; what is missing is undefined.
export function valueOf(node) {
  if (node.type === "object") return Object.fromEntries(node.members.map((member) => [member.key, valueOf(member.node)]));
  if (node.type === "array") return node.items.map(valueOf);
  return node.value;
}

// Where a position is: the keys and indices to it, and what it is in.
export function locate(root, position) {
  const path = [];
  let node = root;
  for (;;) {
    if (node.type === "object") {
      const member = node.members.find((one) => position >= one.keyFrom && position <= Math.max(one.keyTo, one.node.to));
      if (!member) return { path, node, kind: "key" };
      if (position <= member.keyTo) return { path, node, member, kind: "key" };
      path.push(member.key);
      node = member.node;
      if (position < node.from) return { path, node, member, kind: "value" };
    } else if (node.type === "array") {
      const index = node.items.findIndex((item) => position >= item.from && position <= item.to);
      path.push(index < 0 ? node.items.filter((item) => item.to < position).length : index);
      if (index < 0) return { path, node: undefined, kind: "value" };
      node = node.items[index];
    } else {
      return { path, node, kind: "value" };
    }
  }
}
