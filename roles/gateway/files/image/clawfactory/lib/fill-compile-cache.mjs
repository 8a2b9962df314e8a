// Run once while an image is built: starts a gateway until it is ready, so that Node leaves what it compiled on the way in
// $NODE_COMPILE_CACHE. The first start of every bot is shorter by it (bench/converge.py, cold).
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

// OpenClaw's own, for a fork that knows no other; a build has a network of its own.
const PORT = 18789;
// Users of gateways (clawfactory_core/allocation.py).
const FIRST_UID = 20001;
const SLOTS = 256;
const READY_WITHIN = 120_000;
const STOPPED_WITHIN = 60_000;
const directory = process.argv[2];
const config = join(directory, "openclaw.json");
mkdirSync(directory, { recursive: true });
// What the configuration of a bot has too, as far as it decides what is loaded.
writeFileSync(config, JSON.stringify({
  discovery: { mdns: { mode: "off" } },
  gateway: { mode: "local", bind: "loopback", port: PORT, auth: { mode: "none" } },
  models: { catalogRefresh: { enabled: false } },
  plugins: { deny: ["discord", "slack"] },
  telemetry: { enabled: false },
  update: { auto: { enabled: false }, checkOnStart: false },
}));
const environment = {
  ...process.env, HOME: directory, XDG_CACHE_HOME: directory, OPENCLAW_STATE_DIR: join(directory, "state"),
  OPENCLAW_CONFIG_PATH: config, OPENCLAW_CONFIG_READONLY: "1", OPENCLAW_DISABLE_BONJOUR: "1",
  // Else it starts itself a second time, with a cache directory of its own choice (openclaw.mjs).
  OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED: "1",
};
const gateway = spawn("/opt/clawfactory/bin/openclaw", ["gateway"], { env: environment, stdio: "ignore" });
const exited = once(gateway, "exit");
const isReady = () => fetch(`http://127.0.0.1:${PORT}/readyz`, { signal: AbortSignal.timeout(5000) })
  .then((answer) => answer.ok, () => false);
const end = Date.now() + READY_WITHIN;
let ready = false;
while (!ready && gateway.exitCode === null && Date.now() < end) {
  await sleep(500);
  ready = await isReady();
}
// Node writes the cache when a process ends by itself.
gateway.kill("SIGTERM");
if (!(await Promise.race([exited, sleep(STOPPED_WITHIN)]))) gateway.kill("SIGKILL");
// Node gives each user a directory, "<version>-<user id>": those of all bots lead to this one.
const cache = process.env.NODE_COMPILE_CACHE;
for (const { name } of ready ? readdirSync(cache, { withFileTypes: true }).filter((entry) => entry.isDirectory()) : []) {
  for (let slot = 0; slot < SLOTS; slot++) symlinkSync(name, join(cache, name.replace(/-0$/, `-${FIRST_UID + slot}`)));
}
// A fork may start otherwise than OpenClaw does: its gateway then starts as fast as without a cache, and that is all.
console.log(ready ? "the gateway was ready, and Node keeps what it compiled" : "the gateway was not ready; no cache");
process.exit(0);
