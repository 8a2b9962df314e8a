// One run of the proposal forwarder: takes the proposals that the bot's tools left in their exchange directories, pushes each
// to the controller as proposal/<name>, leaves the answer, and brings approved history and status up to date.
//
// Exits 0 when there is nothing left to do, 3 if the same has to be tried again later.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AgentApi, PREFIX, Rejected, Unreachable, parseBundle, readHead } from "./agent-api.mjs";
import { Refused, openExchanges } from "./exchange.mjs";

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;
const SUFFIX = ".bundle";
const REFRESH = "refresh";
/** The controller has a smaller limit of its own, and says so. */
const BUNDLE_LIMIT = 64 * 1024 * 1024;
const ANSWER_LIMIT = 16 * 1024;
const MOST_AT_ONCE = 8;
const MOST_PREREQUISITES = 1000;
const TRY_AGAIN = 3;
const NO_COMMIT = "0".repeat(40);

class Run {
  #fetched = false;
  #down = null;
  #written = false;
  #count = 0;
  again = false;

  constructor(api, exchanges, directory) {
    this.api = api;
    this.exchanges = exchanges;
    this.directory = directory;
  }

  async forwardAll() {
    for (const exchange of this.exchanges) {
      const names = exchange.outbox.names().filter((name) => name.endsWith(SUFFIX));
      for (const file of names.slice(0, MOST_AT_ONCE)) {
        await guarded(`${exchange.label}/proposals/outbox/${file}`, () => this.#forward(exchange, file), this);
      }
    }
  }

  /** Bring status.json and main.bundle up to date, in every exchange. */
  async refresh() {
    // Who asks while this is under way gets the next one.
    const asked = this.exchanges.map((exchange) => exchange.outbox.identify(REFRESH));
    const status = await this.#status();
    for (const [index, exchange] of this.exchanges.entries()) {
      await guarded(`${exchange.label}/proposals`, () => {
        exchange.top.put("status.json", Buffer.from(`${JSON.stringify(status, null, 2)}\n`));
        if (status.main) this.#putMain(exchange, status.main);
        if (asked[index] !== null) exchange.outbox.discard(REFRESH, asked[index]);
      }, this);
    }
  }

  async #forward(exchange, file) {
    const name = file.slice(0, -SUFFIX.length);
    if (!NAME.test(name)) {
      exchange.outbox.discard(file);
      throw new Refused("no proposal can have this name: use 1 to 64 lower-case letters, digits and dashes");
    }
    this.#count += 1;
    const copy = join(this.directory, `${this.#count}${SUFFIX}`);
    let commit = NO_COMMIT;
    let taken;
    try {
      taken = exchange.outbox.copy(file, copy, BUNDLE_LIMIT);
      commit = await checkBundle(copy, name);
      this.#fetch();
      this.#answer(exchange, name, "accepted", commit, `proposal/${name} is with the operator now. ${this.api.push(copy, commit, name)}`);
    } catch (error) {
      if (error instanceof Unreachable) {
        this.again = true;
        return this.#answer(exchange, name, "waiting", commit, `${error.message}. It stays in the outbox and is tried again.`);
      }
      if (!(error instanceof Refused || error instanceof Rejected)) throw error;
      this.#answer(exchange, name, "refused", commit, error.message);
    } finally {
      rmSync(copy, { force: true });
    }
    // A newer one may have come while this one was on its way.
    return exchange.outbox.discard(file, taken);
  }

  #answer(exchange, name, verdict, commit, text) {
    const lines = `${verdict} ${commit}\n${printable(text).slice(0, ANSWER_LIMIT).trim()}\n`;
    exchange.answers.put(`${name}.txt`, Buffer.from(lines));
    say(`proposal ${name} of ${exchange.label}: ${lines.trim().replaceAll("\n", " ").slice(0, 300)}`);
  }

  async #status() {
    const status = { bot: process.env.CLAWFACTORY_BOT ?? "", asked: new Date().toISOString() };
    try {
      const own = await this.api.get("/status");
      const listed = await this.api.get("/proposals");
      return { ...status, approved: text(own?.approved), main: this.api.mainCommit(), proposals: asProposals(listed) };
    } catch (error) {
      if (!(error instanceof Unreachable || error instanceof Rejected)) throw error;
      this.again = true;
      return { ...status, error: `${error.message}; what became of the proposals is not known now` };
    }
  }

  #putMain(exchange, commit) {
    const present = parseBundle(exchange.top.head("main.bundle", 4096));
    if (present?.refs.length === 1 && present.refs[0][0] === commit) return;
    this.#fetch();
    const path = join(this.directory, `main${SUFFIX}`);
    if (!this.#written) this.api.writeMain(path);
    this.#written = true;
    exchange.top.put("main.bundle", { path });
  }

  /** Once a run, also when it fails: nobody waits for the same silence twice. */
  #fetch() {
    if (this.#down) throw this.#down;
    if (this.#fetched) return;
    try {
      this.api.fetchMain();
    } catch (error) {
      this.#down = error;
      throw error;
    }
    this.#fetched = true;
  }
}

async function checkBundle(path, name) {
  const bundle = parseBundle(await readHead(path));
  if (bundle === null) throw new Refused("it is not a Git bundle (version 2, SHA-1); make it with propose.sh send");
  const [[commit, ref] = []] = bundle.refs;
  if (bundle.refs.length !== 1 || ref !== `${PREFIX}${name}`) {
    throw new Refused(`it holds ${printable(bundle.refs.map(([, each]) => each).join(", ")).slice(0, 200) || "nothing"}; it may hold ${PREFIX}${name} and nothing else`);
  }
  if (bundle.prerequisites > MOST_PREREQUISITES) throw new Refused("it depends on too many commits; start a new proposal");
  return commit;
}

function asProposals(listed) {
  if (!Array.isArray(listed)) throw new Unreachable("the controller's list of proposals is not one");
  return listed.map((entry) => ({ name: text(entry?.name), commit: text(entry?.commit), state: text(entry?.state), reason: text(entry?.reason) }));
}

/** One failing exchange or proposal does not keep the others from going on. */
async function guarded(what, action, run) {
  try {
    await action();
  } catch (error) {
    if (error instanceof Unreachable || error.syscall !== undefined) run.again = true;
    else if (!(error instanceof Refused)) throw error;
    say(`${what}: ${printable(error.message)}`);
  }
}

function text(value) {
  return typeof value === "string" ? printable(value).slice(0, ANSWER_LIMIT) : "";
}

/** Without what a terminal would obey. */
function printable(value) {
  // eslint-disable-next-line no-control-regex
  return value.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, " ");
}

function say(message) {
  console.error(`clawfactory: ${printable(message).replaceAll("\n", " ")}`);
}

const { CLAWFACTORY_AGENT_URL: url, CLAWFACTORY_AGENT_TOKEN: token, HOME: home } = process.env;
if (!/^https?:\/\/[^\s/@]+(?:\/[^\s@]*[^\s/@])?$/.test(url ?? "") || !token) {
  say("CLAWFACTORY_AGENT_URL or CLAWFACTORY_AGENT_TOKEN is not set; proposals go nowhere. Run site.yml for this bot");
  process.exit(78);
}
const directory = mkdtempSync(join(tmpdir(), "clawfactory-proposals-"));
const failed = [];
const exchanges = openExchanges(join(home, ".openclaw"), (label, error) => failed.push(`${label}/proposals cannot be used: ${error.message}`));
try {
  const run = new Run(new AgentApi(url, token, directory), exchanges, directory);
  await run.forwardAll();
  await run.refresh();
  for (const message of failed) say(message);
  process.exitCode = run.again || failed.length > 0 ? TRY_AGAIN : 0;
} finally {
  for (const exchange of exchanges) exchange.close();
  rmSync(directory, { recursive: true, force: true });
}
