"""The sources `pull` and `fork` of the gateway image, from stand-ins for what a test machine cannot reach.

The official image is our own OpenClaw laid out like it; the fork is a small program with a build and a lock file.
Takes the image of bot1's gateway, or the one named by CLAWFACTORY_TEST_GATEWAY_IMAGE, and its base image.
"""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

CONTEXT = Path(__file__).parents[2] / "roles" / "gateway" / "files" / "image"
BASE = os.environ.get("CLAWFACTORY_TEST_BASE_IMAGE", "clawfactory-base:dev")

pytestmark = pytest.mark.integration

OFFICIAL = """
ARG GATEWAY
ARG BASE
FROM ${GATEWAY} AS ours
FROM ${BASE}
RUN groupadd --gid 1000 node && useradd --uid 1000 --gid node --create-home node
COPY --from=ours /opt/node /usr/local
COPY --from=ours --chown=node:node /opt/openclaw/node_modules /app/node_modules
RUN cd /app && mv node_modules/openclaw/node_modules bundled && mv node_modules/openclaw/* . \
 && cp -a bundled/. node_modules/ && rm -rf bundled node_modules/openclaw node_modules/@openclaw/discord
WORKDIR /app
USER node
ENTRYPOINT ["/bin/false"]
CMD ["node", "dist/index.js", "gateway"]
"""

PACKAGE = """{
  "name": "openclaw", "version": "2026.9.6", "type": "module", "packageManager": "pnpm@12.3.5",
  "scripts": {"build": "node build.mjs"},
  "dependencies": {"is-number": "7.0.0"}, "devDependencies": {"yallist": "4.0.0"}
}"""
IS_NUMBER = "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng=="
YALLIST = "sha512-3wdGidZyq5PB084XLES5TpOSRA3wjXAlIWMhum2kRcv/41Sn2emQ0dycQW4uZXLejwKvg6EsvbdlVL+FYEct7A=="
LOCK = f"""lockfileVersion: '9.0'
settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false
importers:
  .:
    dependencies:
      is-number:
        specifier: 7.0.0
        version: 7.0.0
    devDependencies:
      yallist:
        specifier: 4.0.0
        version: 4.0.0
packages:
  is-number@7.0.0:
    resolution: {{integrity: {IS_NUMBER}}}
    engines: {{node: '>=0.12.0'}}
  yallist@4.0.0:
    resolution: {{integrity: {YALLIST}}}
snapshots:
  is-number@7.0.0: {{}}
  yallist@4.0.0: {{}}
"""
BUILD = """
import { mkdirSync, writeFileSync } from "node:fs";
import "yallist";
mkdirSync("dist");
writeFileSync("dist/commit.js", `export const commit = ${JSON.stringify(process.env.GIT_COMMIT)};`);
"""
PROGRAM = """
import isNumber from "is-number";
import { createServer } from "node:http";
import { commit } from "./dist/commit.js";
if (process.argv[2] === "--version") console.log(`OpenClaw fork ${commit}`);
else createServer((request, response) => {
  response.statusCode = request.url === "/readyz" && isNumber(1) ? 200 : 404;
  response.end();
}).listen(18789);
"""


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=1200)


def build(context: Path, dockerfile: str, **arguments: str) -> str:
    tag = f"gwi-{uuid.uuid4().hex[:8]}"
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    done = docker("build", "--tag", tag, "--file", str(context / dockerfile), *words, str(context))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return tag


@pytest.fixture(scope="module")
def gateway_image() -> str:
    named = os.environ.get("CLAWFACTORY_TEST_GATEWAY_IMAGE")
    found = docker("inspect", "--format", "{{.Config.Image}}", "clawfactory-bot1-gateway")
    if not named and found.returncode != 0:
        pytest.skip("no gateway of bot1 here, and CLAWFACTORY_TEST_GATEWAY_IMAGE is not set")
    return named or found.stdout.strip()


@pytest.fixture(scope="module")
def pulled(gateway_image, tmp_path_factory) -> Iterator[str]:
    context = tmp_path_factory.mktemp("official")
    (context / "Dockerfile").write_text(OFFICIAL)
    official = build(context, "Dockerfile", GATEWAY=gateway_image, BASE=BASE)
    tag = build(CONTEXT, "Dockerfile.pull", BASE_IMAGE=BASE, UPSTREAM_IMAGE=official)
    yield tag
    docker("rmi", "-f", tag, official)


@pytest.fixture(scope="module")
def forked(tmp_path_factory) -> Iterator[str]:
    context = tmp_path_factory.mktemp("fork") / "context"
    shutil.copytree(CONTEXT, context)
    source = context / "source"
    (source / "src").mkdir(parents=True)
    for name, text in (
        ("package.json", PACKAGE),
        ("pnpm-lock.yaml", LOCK),
        ("build.mjs", BUILD),
        ("openclaw.mjs", PROGRAM),
    ):
        (source / name).write_text(text)
        (source / name).chmod(0o600)
    tag = build(context, "Dockerfile.fork", BASE_IMAGE=BASE, FORK_COMMIT="abc123")
    yield tag
    docker("rmi", "-f", tag)


def shell(image: str, script: str) -> str:
    done = docker("run", "--rm", "--user", "20001:20001", "--network", "none", "--read-only", image, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("source", ["pulled", "forked"])
def test_paths_are_those_of_every_source(request, source):
    image = request.getfixturevalue(source)
    assert shell(image, "command -v openclaw; sh -lc 'command -v openclaw'").splitlines() == [
        "/opt/clawfactory/bin/openclaw",
        "/usr/local/bin/openclaw",
    ]
    assert shell(image, "readlink -f /opt/openclaw/node_modules/openclaw") == "/app"
    assert shell(image, "ls /opt/openclaw/node_modules/@openclaw").split() == ["discord", "slack"]
    for program in ("curl", "docker", "git", "jq", "node", "npm", "rg"):
        assert shell(image, f"command -v {program}"), program
    config = docker("inspect", "--format", "{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}}", image)
    assert config.stdout.strip() == "node [] [/opt/clawfactory/bin/gateway-start]"


def test_the_official_image_keeps_its_openclaw(pulled):
    assert shell(pulled, "openclaw --version").startswith("OpenClaw 2026.9.6")


def test_the_fork_is_built_with_its_lock_file_and_pruned(forked):
    assert shell(forked, "openclaw --version") == "OpenClaw fork abc123"
    left = ["build.mjs", "dist", "node_modules", "openclaw.mjs", "package.json", "pnpm-lock.yaml"]
    assert shell(forked, "ls /app").split() == left
    assert shell(forked, "ls /app/node_modules") == "is-number"
    assert shell(forked, "find /app /opt -not -type l '(' -not -user root -o -perm /022 ')'") == ""


def test_the_fork_starts_as_the_gateway(forked, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "gateway.env").write_text("OPENCLAW_GATEWAY_TOKEN=x\n")
    name = f"gwi-{uuid.uuid4().hex[:8]}"
    options = ("--read-only", "--user", "20001:20001", "--cap-drop", "ALL", "--init", "-e", "CLAWFACTORY_BOT=bot1")
    docker("run", "-d", "--name", name, *options, "-v", f"{tmp_path}:/run/secrets:ro", forked)
    try:
        deadline = time.monotonic() + 20
        while docker("exec", name, "/opt/clawfactory/bin/gateway-healthcheck").returncode != 0:
            assert time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.5)
    finally:
        docker("rm", "-f", name)
