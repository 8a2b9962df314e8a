// Run once while an image is built: links OpenClaw into the plugins beside it, and writes the records of their install
// that gateway-start hands to OpenClaw (plugin-records.sh says why).
import { existsSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const SCOPE = "/opt/openclaw/node_modules/@openclaw";
const readJson = (...path) => JSON.parse(readFileSync(join(...path), "utf8"));

const installRecords = {};
for (const directory of readdirSync(SCOPE).sort()) {
  const installPath = join(SCOPE, directory);
  if (!existsSync(join(installPath, "openclaw.plugin.json"))) continue; // a library of OpenClaw's
  // As `openclaw plugins install` leaves it: the plugin's peer is the OpenClaw that runs it.
  const peer = join(installPath, "node_modules/openclaw");
  if (!existsSync(peer)) symlinkSync("../../../openclaw", peer);
  const { name } = readJson(installPath, "package.json");
  // No version: OpenClaw keeps a record once it has it, and would take the next image's plugin for an outdated one.
  installRecords[readJson(installPath, "openclaw.plugin.json").id] = { source: "npm", spec: name, installPath, resolvedName: name };
}
writeFileSync("/opt/clawfactory/lib/plugin-installs.json", `${JSON.stringify({ version: 1, installRecords, plugins: [] })}\n`);
