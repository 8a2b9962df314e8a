// What an approved package.json and lock file may ask for: packages of the registry, nothing else.
// Anything that names a path, a Git repository or an address could bring in files nobody approved.
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync } from "node:fs";

const NAME = /^(?:@[a-z0-9._~-]+\/)?[a-z0-9._~-]+$/i;
const SPEC = /^(?:npm:(?:@[a-z0-9._~-]+\/)?[a-z0-9._~-]+(?:@|$))?[0-9a-z.*^~<>=|+ -]*$/i;
const DEPENDENCY_KEYS = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];

/** A package.json or lock file that is not installed; its message is for the operator. */
export class Refused extends Error {}

/**
 * Read a regular file without following a link.
 * @param {string} path absolute path
 * @param {number} limit most bytes to accept
 * @returns {Buffer | null} null if there is no such file
 * @throws {Refused} it is a link, a directory, a device, or larger than the limit
 */
export function readRegularFile(path, limit) {
  let descriptor;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (error.code === "ENOENT") return null;
    if (error.code === "ELOOP") throw new Refused(`${path} is a symbolic link; commit the file itself`);
    if (error.code === "ENXIO") throw new Refused(`${path} is not a regular file; commit a file`);
    throw error;
  }
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile()) throw new Refused(`${path} is not a regular file; commit a file`);
    if (found.size > limit) throw new Refused(`${path} has ${found.size} bytes, more than ${limit}; make it smaller`);
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * @param {string} path directory that may be missing
 * @returns {boolean} whether it exists
 * @throws {Refused} it is a link or a file
 */
export function isRealDirectory(path) {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return false;
  if (!found.isDirectory()) throw new Refused(`${path} is not a directory; commit a directory`);
  return true;
}

/**
 * @param {Buffer} data a package.json
 * @param {string} path its path, for messages
 * @returns {number} how many packages it asks for, development packages not counted
 * @throws {Refused} it is not valid, or asks for something that is not in the registry
 */
export function checkManifest(data, path) {
  const manifest = parseObject(data, path);
  if (manifest.workspaces !== undefined) throw new Refused(`${path} has "workspaces", which name directories; remove it`);
  for (const key of DEPENDENCY_KEYS) {
    for (const [name, spec] of Object.entries(asObject(manifest[key], `${key} of ${path}`))) checkSpec(name, spec, path);
  }
  checkOverrides(manifest.overrides, path);
  return Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }).length;
}

/**
 * @param {Buffer} data a package-lock.json or npm-shrinkwrap.json
 * @param {string} path its path, for messages
 * @throws {Refused} it is not valid, too old, or places or takes a package somewhere else than node_modules and the registry
 */
export function checkLock(data, path) {
  const lock = parseObject(data, path);
  if (![2, 3].includes(lock.lockfileVersion)) {
    throw new Refused(`lockfileVersion ${JSON.stringify(lock.lockfileVersion)} of ${path} is not 2 or 3; run npm install --package-lock-only`);
  }
  for (const [place, entry] of Object.entries(asObject(lock.packages, `packages of ${path}`))) {
    if (place === "") continue;
    const parts = place.split("/");
    if (parts[0] !== "node_modules" || parts.some((part) => ["", ".", ".."].includes(part))) {
      throw new Refused(`${path} places a package in ${JSON.stringify(place)}, outside node_modules; make the lock file anew`);
    }
    const { link, resolved } = asObject(entry, `${place} of ${path}`);
    if (link || (resolved !== undefined && !/^https:\/\/[^\s]+$/.test(String(resolved)))) {
      throw new Refused(`${place} of ${path} comes from ${JSON.stringify(resolved)}; only packages of the registry are installed`);
    }
  }
}

function checkSpec(name, spec, path) {
  if (!NAME.test(name)) throw new Refused(`${path} asks for ${JSON.stringify(name)}, which is not a package name`);
  const registry = typeof spec === "string" && SPEC.test(spec) && !spec.startsWith(".") && !/\.(?:tgz|tar|tar\.gz)$/i.test(spec);
  if (!registry) {
    throw new Refused(`${path} asks for ${name} as ${JSON.stringify(spec)}; only versions of the registry are installed, such as "^1.2.3"`);
  }
}

function checkOverrides(overrides, path, depth = 0) {
  if (depth > 32) throw new Refused(`"overrides" of ${path} are nested deeper than 32 levels; make them flatter`);
  for (const [selector, value] of Object.entries(asObject(overrides, `overrides of ${path}`))) {
    if (typeof value === "object") checkOverrides(value, path, depth + 1);
    else if (!/^\$/.test(String(value))) checkSpec(selector === "." ? "self" : selector.replace(/(?!^)@.*$/, ""), value, path);
  }
}

function parseObject(data, path) {
  let parsed;
  try {
    parsed = JSON.parse(data.toString("utf8"));
  } catch (error) {
    throw new Refused(`${path} is not valid JSON: ${error.message}`);
  }
  if (parsed === undefined || parsed === null) throw new Refused(`${path} is not a JSON object`);
  return asObject(parsed, path);
}

function asObject(value, what) {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refused(`${what} is not a JSON object`);
  return value;
}
