// Run once while an image is built: OpenClaw starts here, and is new enough for the channel plugins beside it.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const MODULES = "/opt/openclaw/node_modules";
const readManifest = (directory) => JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
const numbers = (version) => version.match(/\d+/g).slice(0, 3).map(Number);
const isOlder = (left, right) => {
  const at = numbers(left).findIndex((part, index) => part !== numbers(right)[index]);
  return at >= 0 && numbers(left)[at] < numbers(right)[at];
};

const host = readManifest(join(MODULES, "openclaw")).version;
for (const plugin of readdirSync(join(MODULES, "@openclaw"))) {
  const required = readManifest(join(MODULES, "@openclaw", plugin)).openclaw?.compat?.pluginApi;
  if (required !== undefined && isOlder(host, required)) {
    throw new Error(`OpenClaw ${host} is older than plugin ${plugin} allows (${required}); choose a newer one, or older plugins in plugins.json`);
  }
}
console.log(execFileSync("/opt/clawfactory/bin/openclaw", ["--version"], { encoding: "utf8" }).trim());
