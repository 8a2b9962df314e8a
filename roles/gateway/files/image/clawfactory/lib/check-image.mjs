// Run once while an image is built: OpenClaw starts here, is the one that it is called by, and is new enough for the channel
// plugins beside it.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

// As the last line, which is what is shown of a build that failed.
const refuse = (text) => {
  console.error(text);
  process.exit(1);
};
const MODULES = "/opt/openclaw/node_modules";
const readManifest = (directory) => JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
const numbers = (version) => version.match(/\d+/g).slice(0, 3).map(Number);
const isOlder = (left, right) => {
  const at = numbers(left).findIndex((part, index) => part !== numbers(right)[index]);
  return at >= 0 && numbers(left)[at] < numbers(right)[at];
};

const host = readManifest(join(MODULES, "openclaw")).version;
// As a tag it may say more than the version, or nothing of it.
const called = process.env.GATEWAY_VERSION ?? "";
if (/^v?\d/.test(called) && !`${called.replace(/^v/, "")}-`.startsWith(`${host}-`)) {
  refuse(`the image has OpenClaw ${host}, and gateway_version is ${called}; correct that, gateway_image_digest or gateway_image_reference`);
}
for (const plugin of readdirSync(join(MODULES, "@openclaw"))) {
  const required = readManifest(join(MODULES, "@openclaw", plugin)).openclaw?.compat?.pluginApi;
  if (required !== undefined && isOlder(host, required)) {
    refuse(`OpenClaw ${host} is older than plugin ${plugin} allows (${required}); choose a newer one, or older plugins in plugins.json`);
  }
}
console.log(execFileSync("/opt/clawfactory/bin/openclaw", ["--version"], { encoding: "utf8" }).trim());
