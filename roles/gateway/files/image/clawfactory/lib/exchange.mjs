// The files by which a sandbox, which has no network, and the gateway hand proposals to each other:
//
//   proposals/outbox/<name>.bundle   a proposal          proposals/main.bundle   what is approved, to clone from
//   proposals/outbox/refresh         "look again"        proposals/status.json   what became of the proposals
//                                                        proposals/answers/<name>.txt
//
// The sandbox may write all of them and can swap one for a link, a pipe or a directory at any moment. So every directory is
// opened once, without following a link, and everything in it is reached by its descriptor.
import {
  closeSync, constants, fchmodSync, fstatSync, lstatSync, mkdirSync, openSync, opendirSync, readSync, renameSync, unlinkSync, writeSync,
} from "node:fs";
import { randomUUID } from "node:crypto";

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
const CHUNK = 1024 * 1024;
/** Exchanges looked at in one run; a bot has as many as it has sandboxes without access to its workspace. */
const MOST_EXCHANGES = 64;
const MOST_NAMES = 1000;
const IN_THE_WAY = ["ELOOP", "ENOTDIR"];

/** A file of the sandbox that is not taken; its message is for the bot. */
export class Refused extends Error {}

/** An open directory. Names are single names; what they lead to is never followed. */
export class Directory {
  /** @param {number} descriptor of an open directory; closed with {@link close} */
  constructor(descriptor) {
    this.descriptor = descriptor;
  }

  /**
   * @param {string} path absolute; only its last part is not followed
   * @throws {Error} with a `code`, if it is not a directory
   */
  static at(path) {
    return new Directory(openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }

  close() {
    closeSync(this.descriptor);
  }

  /**
   * @param {string} name
   * @returns {Directory | null} null if there is none
   */
  find(name) {
    try {
      return Directory.at(this.#path(name));
    } catch (error) {
      if (error.code === "ENOENT" || IN_THE_WAY.includes(error.code)) return null;
      throw error;
    }
  }

  /**
   * Open a directory, make it if it is missing. A link or file of that name is removed.
   * @param {string} name
   * @throws {Error} with a `code`, if there can be none
   */
  make(name) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        mkdirSync(this.#path(name), 0o755);
      } catch (error) {
        if (error.code !== "EEXIST") throw error;
      }
      try {
        return Directory.at(this.#path(name));
      } catch (error) {
        if (!IN_THE_WAY.includes(error.code) || attempt > 2) throw error;
        unlinkSync(this.#path(name));
      }
    }
  }

  /** @returns {string[]} sorted; of a directory with very many, some */
  names() {
    const listing = opendirSync(`/proc/self/fd/${this.descriptor}`);
    try {
      const names = [];
      for (let entry = listing.readSync(); entry !== null && names.length < MOST_NAMES; entry = listing.readSync()) names.push(entry.name);
      return names.sort();
    } finally {
      listing.closeSync();
    }
  }

  /**
   * Copy a regular file to a place that the sandbox does not see.
   * @param {string} name
   * @param {string} target path of a file that does not exist
   * @param {number} limit most bytes to accept
   * @returns {string} what tells this file from another of the same name
   * @throws {Refused} it is something else, too large, or gone
   */
  copy(name, target, limit) {
    const source = this.#openRegular(name);
    try {
      const found = fstatSync(source, { bigint: true });
      const copied = openSync(target, O_WRONLY | O_CREAT | O_EXCL, 0o600);
      try {
        // Counted and not believed: the file may grow meanwhile.
        if (pump(source, copied, limit) > limit) throw new Refused(`the file is larger than ${limit} bytes; make the proposal smaller`);
      } finally {
        closeSync(copied);
      }
      return identity(found);
    } finally {
      closeSync(source);
    }
  }

  /**
   * @param {string} name
   * @param {number} length most bytes to return
   * @returns {Buffer} the beginning of a regular file, empty if there is none
   */
  head(name, length) {
    let source;
    try {
      source = this.#openRegular(name);
    } catch (error) {
      if (error instanceof Refused) return Buffer.alloc(0);
      throw error;
    }
    try {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, readSync(source, buffer, 0, length, 0));
    } finally {
      closeSync(source);
    }
  }

  /**
   * Put a file there by a rename, whatever had its name before.
   * @param {string} name
   * @param {Buffer | {path: string}} content bytes, or a file to copy
   * @throws {Error} with a `code`: no space, say
   */
  put(name, content) {
    const fresh = `.${randomUUID()}`;
    const target = openSync(this.#path(fresh), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      if (Buffer.isBuffer(content)) writeAll(target, content, content.length);
      else copyInto(target, content.path);
      fchmodSync(target, 0o644);
      this.#replace(fresh, name);
    } catch (error) {
      unlinkSync(this.#path(fresh));
      throw error;
    } finally {
      closeSync(target);
    }
  }

  /** @param {string} name @returns {string | null} what tells it from another of the same name; null if there is none */
  identify(name) {
    const found = lstatSync(this.#path(name), { bigint: true, throwIfNoEntry: false });
    return found === undefined ? null : identity(found);
  }

  /**
   * Remove a file, link, pipe or socket; a directory is moved out of the way.
   * @param {string} name
   * @param {string} [only] remove it only if it still is what {@link copy} or {@link identify} said
   */
  discard(name, only) {
    const found = lstatSync(this.#path(name), { bigint: true, throwIfNoEntry: false });
    if (found === undefined || (only !== undefined && identity(found) !== only)) return;
    if (found.isDirectory()) renameSync(this.#path(name), this.#path(`${name}.${randomUUID()}`));
    else unlinkSync(this.#path(name));
  }

  #replace(fresh, name) {
    try {
      renameSync(this.#path(fresh), this.#path(name));
    } catch (error) {
      if (error.code !== "EISDIR") throw error;
      this.discard(name);
      renameSync(this.#path(fresh), this.#path(name));
    }
  }

  #openRegular(name) {
    let source;
    try {
      // Without waiting: a pipe has nobody at its other end.
      source = openSync(this.#path(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (["ELOOP", "ENOENT", "ENXIO", "EACCES"].includes(error.code)) throw new Refused(`it is no file that can be read (${error.code})`);
      throw error;
    }
    if (fstatSync(source).isFile()) return source;
    closeSync(source);
    throw new Refused("it is not a regular file");
  }

  #path(name) {
    if (name === "" || name === "." || name === ".." || name.includes("/")) throw new Error(`${JSON.stringify(name)} is not a name`);
    return `/proc/self/fd/${this.descriptor}/${name}`;
  }
}

/** One `proposals` directory with its parts open. */
export class Exchange {
  /**
   * @param {string} label its place, for the log
   * @param {Directory} top
   */
  constructor(label, top) {
    this.label = label;
    this.top = top;
    this.outbox = top.make("outbox");
    this.answers = top.make("answers");
  }

  close() {
    for (const directory of [this.outbox, this.answers, this.top]) directory.close();
  }
}

/**
 * The exchange of the workspace, which is made if it is missing, and those of further agents and of sandboxes that have a
 * workspace of their own, where a tool made one.
 * @param {string} state the state directory, a mount and so in nobody's hands
 * @param {(label: string, error: Error) => void} onFailure told of one that cannot be had
 * @returns {Exchange[]}
 */
export function openExchanges(state, onFailure) {
  const root = Directory.at(state);
  const found = [];
  const add = (parent, label, make) => {
    if (parent === null || found.length >= MOST_EXCHANGES) return;
    try {
      const top = make ? parent.make("proposals") : parent.find("proposals");
      if (top !== null) found.push(new Exchange(label, top));
    } catch (error) {
      onFailure(label, error);
    } finally {
      parent.close();
    }
  };
  try {
    for (const name of root.names().filter((name) => /^workspace(?:-.+)?$/.test(name))) add(root.find(name), name, name === "workspace");
    const sandboxes = root.find("sandboxes");
    if (sandboxes !== null) {
      for (const name of sandboxes.names()) add(sandboxes.find(name), `sandboxes/${name}`, false);
      sandboxes.close();
    }
  } finally {
    root.close();
  }
  return found;
}

function identity(found) {
  return [found.dev, found.ino, found.size, found.mtimeNs].join(":");
}

function copyInto(target, path) {
  const source = openSync(path, O_RDONLY | O_NOFOLLOW);
  try {
    pump(source, target, Infinity);
  } finally {
    closeSync(source);
  }
}

/** Copies until the end or just beyond the limit; returns the number of bytes. */
function pump(source, target, limit) {
  const buffer = Buffer.alloc(CHUNK);
  let total = 0;
  while (total <= limit) {
    const count = readSync(source, buffer, 0, CHUNK, null);
    if (count === 0) break;
    writeAll(target, buffer, count);
    total += count;
  }
  return total;
}

function writeAll(descriptor, buffer, length) {
  for (let done = 0; done < length;) done += writeSync(descriptor, buffer, done, length - done);
}
