// The controller's agent API, as the gateway uses it: Git over HTTP, and what became of the proposals.
//
// Git runs in a repository that is made for one run and read by nobody else, with no configuration but what stands here. The
// token travels in the environment of the git processes alone.
import { spawnSync } from "node:child_process";
import { createReadStream, mkdirSync } from "node:fs";
import { join } from "node:path";

const MAIN = "refs/heads/main";
const HEADER_LIMIT = 64 * 1024;
const BODY_LIMIT = 1024 * 1024;
const API_TIMEOUT = 10_000;
const GIT_SECONDS = 120;
// KiB of address space: a pack of few bytes can unfold to gigabytes.
const GIT_MEMORY = 2_097_152;
const SIGNATURE = "# v2 git bundle";
export const PREFIX = "refs/heads/proposal/";

/** The controller does not answer, or not now: the same can be tried again. */
export class Unreachable extends Error {}

/** The controller or Git refuses; the message is for the bot. */
export class Rejected extends Error {}

/**
 * Read what a bundle says of itself, before Git is given it.
 * @param {Buffer} head the beginning of the file
 * @returns {{refs: [string, string][], prerequisites: number} | null} null if it is not a bundle of the known form
 */
export function parseBundle(head) {
  const end = head.indexOf("\n\n");
  if (end < 0 || end > HEADER_LIMIT) return null;
  const [signature, ...lines] = head.subarray(0, end).toString("latin1").split("\n");
  if (signature !== SIGNATURE) return null;
  const refs = [];
  let prerequisites = 0;
  for (const line of lines) {
    const ref = /^([0-9a-f]{40}) (\S+)$/.exec(line);
    if (ref) refs.push([ref[1], ref[2]]);
    else if (/^-[0-9a-f]{40}(?: .*)?$/.test(line)) prerequisites += 1;
    else return null;
  }
  return { refs, prerequisites };
}

/** @param {string} path @returns {Promise<Buffer>} as much of a bundle as can be its header */
export async function readHead(path) {
  const parts = [];
  for await (const part of createReadStream(path, { end: HEADER_LIMIT + 1 })) parts.push(part);
  return Buffer.concat(parts);
}

export class AgentApi {
  #token;

  /**
   * @param {string} url of the agent API, without a slash at its end
   * @param {string} token the bot's agent token
   * @param {string} directory an empty one, for this run alone
   */
  constructor(url, token, directory) {
    this.url = url;
    this.repository = `${url}/repository.git`;
    this.#token = token;
    this.directory = directory;
    mkdirSync(join(directory, "home"));
  }

  /**
   * @param {string} path below the API
   * @returns {Promise<any>} the answer, parsed
   * @throws {Unreachable | Rejected}
   */
  async get(path) {
    let answer, body;
    try {
      const headers = { authorization: `Bearer ${this.#token}` };
      answer = await fetch(`${this.url}${path}`, { headers, redirect: "error", signal: AbortSignal.timeout(API_TIMEOUT) });
      body = await readBounded(answer.body);
    } catch (error) {
      throw new Unreachable(`the controller does not answer (${error.cause?.code ?? error.name})`);
    }
    if (answer.status >= 500 || answer.status === 429) throw new Unreachable(`the controller answers ${answer.status}`);
    if (answer.status !== 200) throw new Rejected(`the controller answers ${answer.status} for ${path}`);
    try {
      return JSON.parse(body);
    } catch {
      throw new Unreachable(`the controller's answer for ${path} is not JSON`);
    }
  }

  /** @returns {string} the commit of main @throws {Unreachable} */
  mainCommit() {
    const commit = this.#ask(["ls-remote", this.repository, MAIN]).slice(0, 40);
    if (!/^[0-9a-f]{40}$/.test(commit)) throw new Unreachable("the controller shows no branch main");
    return commit;
  }

  /** Make the repository of this run, with the history of main. @throws {Unreachable} */
  fetchMain() {
    this.#ask(["init", "--quiet", "--bare", this.#repositoryPath]);
    this.#ask(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", this.repository, `${MAIN}:${MAIN}`]);
  }

  /** Write main with its history to a file, after {@link fetchMain}. @param {string} path @throws {Unreachable} */
  writeMain(path) {
    this.#ask(["bundle", "create", "--quiet", path, MAIN]);
  }

  /**
   * Push one commit of a bundle, after {@link fetchMain}.
   * @param {string} bundle path of a file that {@link parseBundle} accepts
   * @param {string} commit
   * @param {string} name of the proposal
   * @returns {string} what the controller says to it
   * @throws {Rejected | Unreachable}
   */
  push(bundle, commit, name) {
    const unpacked = this.#git(["bundle", "unbundle", bundle]);
    if (unpacked.status !== 0) throw new Rejected(explainUnbundle(unpacked.stderr));
    const pushed = this.#git(["push", "--porcelain", "--no-verify", this.repository, `${commit}:${PREFIX}${name}`]);
    const said = remoteLines(pushed.stderr);
    if (pushed.status === 0) return said;
    const refusal = /^!\t\S+\t(.+)$/m.exec(pushed.stdout);
    if (refusal) throw new Rejected([said, explainRefusal(refusal[1], said)].filter(Boolean).join("\n"));
    const status = /Authentication failed|could not read Username/.test(pushed.stderr) ? "401" : / (?:HTTP|error:) (4\d\d)\b/.exec(pushed.stderr)?.[1];
    if (status) throw new Rejected([said, explainStatus(status)].filter(Boolean).join("\n"));
    throw new Unreachable(`the controller does not take it now: ${lastLine(pushed.stderr)}`);
  }

  get #repositoryPath() {
    return join(this.directory, "repository.git");
  }

  #ask(command) {
    const done = this.#git(command);
    if (done.status === 0) return done.stdout;
    throw new Unreachable(`git ${command[0]} of the controller's repository failed: ${lastLine(done.stderr)}`);
  }

  #git(command) {
    const limits = `ulimit -v ${GIT_MEMORY}; ulimit -t ${GIT_SECONDS}; exec "$@"`;
    // The whole group: what git started would go on.
    const bounded = ["timeout", "--kill-after=5", String(GIT_SECONDS), "git", ...command];
    const options = { cwd: this.directory, env: this.#environment(), encoding: "utf8", maxBuffer: 4 * BODY_LIMIT, stdio: ["ignore", "pipe", "pipe"] };
    const done = spawnSync("sh", ["-c", limits, "sh", ...bounded], options);
    if (done.error) throw done.error;
    return done;
  }

  #environment() {
    const settings = {
      [`http.${this.repository}.extraHeader`]: `Authorization: Bearer ${this.#token}`,
      "core.bigFileThreshold": "1m",
      "core.fsmonitor": "false",
      "core.hooksPath": "/dev/null",
      "credential.helper": "",
      "gc.auto": "0",
      "http.followRedirects": "false",
      "http.lowSpeedLimit": "1000",
      "http.lowSpeedTime": "30",
      // The controller is next door; the way out is not the way there.
      "http.proxy": "",
      "pack.threads": "1",
      "protocol.allow": "never",
      "protocol.http.allow": "always",
      "protocol.https.allow": "always",
      "transfer.fsckObjects": "true",
    };
    const environment = {
      PATH: process.env.PATH, HOME: join(this.directory, "home"), LC_ALL: "C.UTF-8", GIT_DIR: this.#repositoryPath,
      GIT_CONFIG_NOSYSTEM: "1", GIT_CONFIG_GLOBAL: "/dev/null", GIT_TERMINAL_PROMPT: "0", GIT_ASKPASS: "/bin/false",
      GIT_CONFIG_COUNT: String(Object.keys(settings).length),
    };
    Object.entries(settings).forEach(([key, value], index) => {
      environment[`GIT_CONFIG_KEY_${index}`] = key;
      environment[`GIT_CONFIG_VALUE_${index}`] = value;
    });
    return environment;
  }
}

async function readBounded(stream) {
  const parts = [];
  let total = 0;
  for await (const part of stream ?? []) {
    total += part.length;
    if (total > BODY_LIMIT) throw new Error("the answer is too long");
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** What the other side said in words, without Git's own lines around it. */
function remoteLines(text) {
  const lines = text.split("\n").filter((line) => line.startsWith("remote: ")).map((line) => line.slice(8).trimEnd());
  return lines.filter(Boolean).join("\n");
}

function lastLine(text) {
  return text.trim().split("\n").at(-1).slice(0, 300) || "no message";
}

function explainUnbundle(text) {
  if (text.includes("lacks these prerequisite")) {
    return "it is made on commits that are not in the approved history; start a new proposal (propose.sh start) and copy your files over";
  }
  return `Git cannot read it: ${lastLine(text)}`;
}

function explainRefusal(reason, said) {
  // The hook has said more than Git, which only knows that it declined.
  if (said && /hook declined/.test(reason)) return "";
  if (/fetch first|non-fast-forward/.test(reason)) {
    return "another proposal has this name and is not part of yours; choose another name (propose.sh start)";
  }
  return reason;
}

function explainStatus(status) {
  const texts = {
    401: "the controller does not accept this bot's token; the operator has to run site.yml",
    413: "the proposal is too large; make it smaller",
    429: "too many proposals in a short time; send it again in an hour",
  };
  return texts[status] ?? `the controller refuses with HTTP ${status}`;
}
