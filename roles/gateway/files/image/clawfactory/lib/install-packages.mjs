// Installs the packages of the approved <bot>_save/package.json before the gateway starts.
//
// The result is a directory named after a digest of what it was made from, and a link to it that is replaced by a
// rename: whatever kills this program, the next start finds the old packages or the new ones, never half of them.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Refused, checkLock, checkManifest, isRealDirectory, readRegularFile } from "./package-rules.mjs";

const MANIFEST_LIMIT = 1024 * 1024;
const LOCK_LIMIT = 16 * 1024 * 1024;
const LOCK_NAMES = ["npm-shrinkwrap.json", "package-lock.json"];
const COMPLETE = ".complete";

const name = `${process.env.CLAWFACTORY_BOT}_save`;
const source = join(process.env.HOME, ".openclaw/workspace", name);
const parent = join(process.env.HOME, ".openclaw/installed");
const target = join(parent, name);

class InstallFailed extends Error {}

async function main() {
  const wanted = readWanted();
  if (wanted === null) {
    removeAllBut(null);
    rmSync(target, { recursive: true, force: true });
    return;
  }
  const directory = `.${name}.${wanted.digest}`;
  if (currentLink() === directory && existsSync(join(parent, directory, COMPLETE))) {
    say(`packages of ${name} are unchanged`);
    return;
  }
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  removeAllBut(currentLink());
  await install(wanted, directory);
  replaceLink(directory);
  removeAllBut(directory);
}

/** The checked files and the digest of everything the result depends on, or null if there is nothing to install. */
function readWanted() {
  if (!isRealDirectory(source)) return null;
  const manifestPath = join(source, "package.json");
  const manifest = readRegularFile(manifestPath, MANIFEST_LIMIT);
  if (manifest === null) return null;
  const count = checkManifest(manifest, manifestPath);
  const hash = createHash("sha256").update(`${process.version} ${process.arch} ${manifest.length}\n`).update(manifest);
  let lock = null;
  for (const lockName of LOCK_NAMES) {
    const data = readRegularFile(join(source, lockName), LOCK_LIMIT);
    if (data === null) continue;
    checkLock(data, join(source, lockName));
    hash.update(`\n${lockName}\n`).update(data);
    lock = { name: lockName, data };
    break;
  }
  return count === 0 ? null : { manifest, lock, count, digest: hash.digest("hex").slice(0, 32) };
}

async function install({ manifest, lock, count }, directory) {
  const timeout = timeoutSeconds();
  const work = mkdtempSync(join(parent, `.${name}.tmp-`));
  const started = performance.now();
  // Only these two files: an .npmrc beside them could name another registry, or a program to run as git.
  writeFileSync(join(work, "package.json"), manifest);
  if (lock) writeFileSync(join(work, lock.name), lock.data);
  say(`installing ${count} package(s) of ${name} with npm ${lock ? `ci, as locked by ${lock.name}` : "install, no lock file"}`);
  try {
    await runNpm(lock ? ["ci"] : ["install", "--no-save", "--no-package-lock"], work, timeout);
    rmSync(join(work, ".npm-cache"), { recursive: true, force: true });
    writeFileSync(join(work, COMPLETE), "");
    rmSync(join(parent, directory), { recursive: true, force: true });
    renameSync(work, join(parent, directory));
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    throw error;
  }
  say(`installed ${name} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

function runNpm(command, work, timeout) {
  const proxy = process.env.CLAWFACTORY_PROXY_URL;
  const options = [
    ...["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--no-progress"],
    // What a package of the registry depends on has to be in the registry too.
    ...["--allow-git=none", "--allow-file=none", "--allow-directory=none", "--allow-remote=none"],
    ...["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"],
    ...["--loglevel=error", "--logs-max=0", `--cache=${join(work, ".npm-cache")}`],
  ];
  const env = { ...process.env, npm_config_userconfig: "/dev/null" };
  if (proxy) Object.assign(env, { HTTPS_PROXY: proxy, HTTP_PROXY: proxy, npm_config_https_proxy: proxy, npm_config_proxy: proxy });
  return new Promise((resolve, reject) => {
    // A process group of its own: killing npm alone would leave its children writing.
    const npm = spawn("npm", [...command, ...options], { cwd: work, env, detached: true, stdio: ["ignore", "inherit", "inherit"] });
    const killGroup = () => process.kill(-npm.pid, "SIGKILL");
    let reason = null;
    const stop = (why) => {
      reason ??= why;
      killGroup();
    };
    const timer = setTimeout(() => stop(`took longer than CLAWFACTORY_INSTALL_TIMEOUT=${timeout} s`), timeout * 1000);
    for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => stop(`was interrupted by ${signal}`));
    npm.on("error", (error) => reject(new InstallFailed(`npm does not start: ${error.message}`)));
    npm.on("exit", (code, signal) => {
      clearTimeout(timer);
      if (code === 0 && reason === null) resolve();
      else reject(new InstallFailed(`npm ${command[0]} ${reason ?? `ended with ${signal ?? `exit code ${code}`}`}`));
    });
  });
}

function timeoutSeconds() {
  const text = process.env.CLAWFACTORY_INSTALL_TIMEOUT ?? "300";
  if (!/^[1-9][0-9]{0,4}$/.test(text)) throw new Refused(`CLAWFACTORY_INSTALL_TIMEOUT=${text} is not a number of seconds from 1 to 99999`);
  return Number(text);
}

function currentLink() {
  try {
    return readlinkSync(target);
  } catch (error) {
    if (["ENOENT", "EINVAL"].includes(error.code)) return null;
    throw error;
  }
}

function replaceLink(directory) {
  const fresh = join(parent, `.${name}.tmp-link`);
  symlinkSync(directory, fresh);
  if (currentLink() === null) rmSync(target, { recursive: true, force: true }); // not a link: not made here
  renameSync(fresh, target);
}

function removeAllBut(kept) {
  if (!existsSync(parent)) return;
  for (const entry of readdirSync(parent)) {
    if (entry.startsWith(`.${name}.`) && entry !== kept) rmSync(join(parent, entry), { recursive: true, force: true });
  }
}

function say(text) {
  console.log(`clawfactory: ${text}`);
}

try {
  await main();
} catch (error) {
  const refused = error instanceof Refused;
  const known = refused || error instanceof InstallFailed || error.syscall !== undefined;
  const advice = refused ? "" : "; the gateway does not start without its approved packages, see the lines above";
  console.error(`clawfactory: packages of ${name} were not installed: ${known ? error.message : error.stack}${advice}`);
  process.exitCode = refused ? 78 : 1;
}
