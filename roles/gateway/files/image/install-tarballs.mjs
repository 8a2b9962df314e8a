// Usage: install-tarballs.mjs LIST DIRECTORY. Unpacks packages that need nothing else into DIRECTORY/<name>.
//
// LIST is {"<name>": {"version": …, "integrity": "sha512-…", "cpu": optional}}. OpenClaw's plugins bundle what they need,
// in versions their own manifests do not allow, so `npm ci` refuses every lock file with them in it.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

const [list, directory] = process.argv.slice(2);
const scratch = mkdtempSync("/tmp/tarballs-");
for (const [name, { version, integrity, cpu }] of Object.entries(JSON.parse(readFileSync(list, "utf8")))) {
  if (cpu !== undefined && cpu !== process.arch) continue;
  const packed = execFileSync("npm", ["pack", `${name}@${version}`, "--json", `--pack-destination=${scratch}`], { stdio: ["ignore", "pipe", "inherit"] });
  const tarball = join(scratch, JSON.parse(packed)[0].filename);
  const found = `sha512-${createHash("sha512").update(readFileSync(tarball)).digest("base64")}`;
  if (found !== integrity) throw new Error(`${name}@${version} has ${found}, but ${list} says ${integrity}`);
  const target = join(directory, name);
  mkdirSync(target, { recursive: true });
  execFileSync("tar", ["--extract", "--gzip", "--strip-components=1", "--no-same-owner", "--file", tarball, "--directory", target]);
  const manifest = JSON.parse(readFileSync(join(target, "package.json"), "utf8"));
  for (const dependency of Object.keys(manifest.dependencies ?? {})) {
    if (!existsSync(join(target, "node_modules", dependency))) throw new Error(`${name}@${version} does not bundle ${dependency}`);
  }
  console.log(`${name}@${version} in ${target}`);
}
rmSync(scratch, { recursive: true });
