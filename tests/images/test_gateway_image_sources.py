"""The sources of the gateway image through the role: a registry, a fork, and no network at all.

What a test machine cannot reach has stand-ins: a registry of its own, an official image that is Node and the launcher
of our OpenClaw laid out like it, a fork that is a small program with a build and a lock file. All bots go through runs
of `site.yml` that end before anything of a bot is made: the last thing asked is the OpenClaw of the bot's own image,
about a setting that every OpenClaw refuses.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.offline import OfflineMachine
from tests.support.playbooks import PlaybookRun, ansible_playbook
from tests.support.registry import Registry

ROOT = Path("/srv/clawfactory")
#: No OpenClaw takes it, and that of the fork says so in its own words.
REFUSED_CONFIG = {"logging": {"level": "shouting"}}
REACHED_THE_END = "OpenClaw refuses the configuration, nothing has been changed"
#: In every name: what another run of these tests does, or has left, is not taken for what this one does.
RUN = uuid.uuid4().hex[:8]
VERSION = f"2026.9.6-{RUN}"
CLOSED = "127.0.0.1:1/openclaw/openclaw:2026.9.6"
NO_DIGEST = f"sha256:{'0' * 64}"
NO_COMMIT = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "never-to-be-seen"

pytestmark = pytest.mark.integration

OFFICIAL = """
ARG GATEWAY
ARG BASE
FROM ${GATEWAY} AS ours
FROM ${BASE}
ARG RUN
LABEL clawfactory.test=${RUN}
RUN groupadd --gid 1000 node && useradd --uid 1000 --gid node --create-home node
COPY --from=ours /opt/node /usr/local
COPY --from=ours /opt/openclaw/node_modules/openclaw/*.mjs /opt/openclaw/node_modules/openclaw/package.json /app/
COPY --from=ours /opt/openclaw/node_modules/openclaw/dist/build-info.json /app/dist/
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
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { commit } from "./dist/commit.js";
if (process.argv[2] === "--version") console.log(`OpenClaw fork ${commit}`);
else if (process.argv[2] === "config") {
  if (readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8").includes("shouting")) throw new Error("I want silence");
} else createServer((request, response) => {
  response.statusCode = request.url === "/readyz" && isNumber(1) ? 200 : 404;
  response.end();
}).listen(18789);
"""
FORK = {
    "package.json": PACKAGE,
    "pnpm-lock.yaml": LOCK,
    "build.mjs": BUILD,
    "openclaw.mjs": PROGRAM,
    "src/index.ts": "",
    "CHANGES": "first",
}


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=1200)


def named(bot: str) -> str:
    return f"{bot}-{RUN}"


def inventory(bots: dict[str, dict[str, Any]]) -> str:
    # The machine need not be large enough for all of them.
    common = {"ansible_connection": "local", "host_minimum_memory_mb": 0, "host_minimum_disk_mb": 0}
    hosts = {named(bot): variables for bot, variables in bots.items()}
    group = {"hosts": hosts, "vars": {**common, "gateway_config": REFUSED_CONFIG}}
    text: str = yaml.safe_dump({"bots": group}, sort_keys=False)
    return text


def pulls(source: str, reference: str, digest: str = "") -> dict[str, str]:
    settings = {"gateway_image_source": source, "gateway_image_reference": reference, "gateway_version": VERSION}
    return {**settings, "gateway_image_digest": digest}


def forks(url: str, commit: str) -> dict[str, str]:
    return {"gateway_image_source": "fork", "gateway_fork_repository": url, "gateway_fork_commit": commit}


def play(playbook: str, directory: Path, bots: dict[str, dict[str, Any]]) -> PlaybookRun:
    path = directory / f"{uuid.uuid4().hex[:8]}.yml"
    path.write_text(inventory(bots))
    return ansible_playbook(playbook, path)


def results(run: PlaybookRun, task: str) -> dict[str, dict[str, Any]]:
    """What a task has said about each bot that came to it, the last time that it did."""
    tasks = [item for play in run.report["plays"] for item in play["tasks"]]
    found = {}
    for item in tasks:
        if item["task"]["name"].endswith(task):
            found.update(item["hosts"])
    return {bot.removesuffix(f"-{RUN}"): result for bot, result in found.items()}


def messages(run: PlaybookRun) -> dict[str, str]:
    return {bot.removesuffix(f"-{RUN}"): message for bot, message in run.failures.items()}


def images(run: PlaybookRun) -> dict[str, str]:
    """The image of each bot whose own OpenClaw was asked at the end."""
    return {
        bot: result["ansible_facts"]["gateway_image"]["reference"]
        for bot, result in results(run, "Settle where the image comes from").items()
        if REACHED_THE_END in messages(run).get(bot, "")
    }


def changed(run: PlaybookRun, bot: str) -> list[str]:
    return [line.partition(": ")[2] for line in run.changed if line.startswith(f"{named(bot)}: ")]


@dataclass
class Traces:
    """What the runs leave on the engine.

    :param made_from: an image; every untagged image made from it is a trace.
    :param commits: commits of the fork; every untagged image of their builds is a trace.
    """

    made_from: str = ""
    commits: list[str] = field(default_factory=lambda: [NO_COMMIT])
    references: set[str] = field(default_factory=set)

    def remove(self) -> None:
        """Take them away."""
        tags = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-gateway").stdout.split()
        versions = [VERSION, *(f"fork-{commit[:12]}" for commit in self.commits)]
        ours = [tag for tag in tags if any(f":{version}-" in tag for version in versions)]
        docker("rmi", "--force", *ours, *self.references)
        for image in docker("image", "ls", "--quiet", "--filter", "dangling=true").stdout.split():
            history = docker("image", "history", "--no-trunc", "--quiet", image).stdout.split()
            environment = docker("image", "inspect", "--format", "{{json .Config.Env}}", image).stdout
            if self.made_from in history or any(f"GIT_COMMIT={commit}" in environment for commit in self.commits):
                docker("rmi", image)


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    found = Traces()
    yield found
    found.remove()


@dataclass(frozen=True)
class Built:
    """Base image of this machine, and the gateway's image with OpenClaw from npm."""

    base: str
    image: str


@pytest.fixture(scope="module")
def built(tmp_path_factory, traces) -> Built:
    """Also makes what all bots share, before the runs with several of them."""
    # Of another version, or it would be what `auto` finds on the machine later.
    fallen = {**pulls("auto", CLOSED), "gateway_version": f"{VERSION}-built"}
    run = play("site.yml", tmp_path_factory.mktemp("built"), {"fallen": fallen})
    shared = results(run, "Share | What the machine has")["fallen"]
    assert images(run), run.failures
    return Built(shared["ansible_facts"]["host_base_image"], images(run)["fallen"])


@dataclass(frozen=True)
class Official:
    """The official image's stand-in: its reference in the registry, and its digest."""

    reference: str
    digest: str


@pytest.fixture(scope="module")
def official(built, tmp_path_factory, traces) -> Iterator[Official]:
    with Registry(built.base) as registry:
        context = tmp_path_factory.mktemp("official")
        (context / "Dockerfile").write_text(OFFICIAL)
        arguments = {"GATEWAY": built.image, "BASE": built.base, "RUN": RUN}
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        done = docker("build", "--quiet", *words, str(context))
        assert done.returncode == 0, done.stdout + done.stderr
        traces.made_from = done.stdout.strip()
        registry.wait()
        digest = registry.push(traces.made_from, "openclaw/openclaw:2026.9.6")
        docker("rmi", traces.made_from)
        assert docker("image", "inspect", traces.made_from).returncode != 0, "nothing would be left to pull"
        name = f"{registry.address}/openclaw/openclaw"
        traces.references |= {f"{name}:2026.9.6", f"{name}@{digest}"}
        yield Official(f"{name}:2026.9.6", digest)


class Fork:
    """A Git repository with the fork, on one branch."""

    def __init__(self, directory: Path) -> None:
        self.url = f"file://{directory}"
        self._directory = directory
        self._git("init", "--quiet", "--initial-branch", "main", "--template=")
        self.first = self.commit(FORK)

    def commit(self, files: dict[str, str | None]) -> str:
        """Move the branch to a new commit with these files; those that are None are removed."""
        for name, text in files.items():
            path = self._directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text) if text is not None else path.unlink()
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", "x")
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self._directory), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@dataclass(frozen=True)
class Runs:
    """Two runs with `tagged` and `forked`; between them the fork's branch moved."""

    first: PlaybookRun
    second: PlaybookRun
    #: Of `forked`, and of `moved` in the second run.
    commits: tuple[str, str]


@pytest.fixture(scope="module")
def runs(official, tmp_path_factory, traces) -> Runs:
    directory = tmp_path_factory.mktemp("runs")
    (directory / "fork").mkdir()
    fork = Fork(directory / "fork")
    broken = fork.commit({"pnpm-lock.yaml": None, "CHANGES": "broken"})
    # After the others: what is done for the machine is done by the first bot, and does not count as theirs.
    kept = {"tagged": pulls("auto", official.reference), "forked": forks(fork.url, fork.first)}
    refused = {
        "wrong": pulls("pull", official.reference, NO_DIGEST),
        "mistaken": pulls("auto", official.reference, NO_DIGEST),
        "unreached": pulls("pull", CLOSED),
        "branch": forks(fork.url, "main"),
        "absent": forks(fork.url, NO_COMMIT),
        "elsewhere": forks(f"http://someone:{PASSWORD}@127.0.0.1:1/fork.git", fork.first),
    }
    traces.commits += [fork.first, broken]
    # As where nobody else may read root's files: what is checked out has to be readable in the image all the same.
    before = os.umask(0o077)
    try:
        first = play("site.yml", directory, {**refused, **kept})
    finally:
        os.umask(before)
    new = fork.commit({"pnpm-lock.yaml": LOCK, "CHANGES": "moved"})
    traces.commits.append(new)
    more = {
        "pinned": pulls("pull", official.reference, official.digest),
        "misnamed": {**pulls("pull", official.reference, official.digest), "gateway_version": f"2026.9.5-{RUN}"},
        "moved": forks(fork.url, new),
        # Here, and not in the first run, where it would make the same layers at the same time as `forked`.
        "broken": forks(fork.url, broken),
    }
    second = play("site.yml", directory, {**more, **kept})
    return Runs(first, second, (fork.first, new))


@pytest.fixture(scope="module")
def pulled(runs) -> str:
    return images(runs.first)["tagged"]


@pytest.fixture(scope="module")
def forked(runs) -> str:
    return images(runs.first)["forked"]


def shell(image: str, script: str) -> str:
    done = docker("run", "--rm", "--user", "20001:20001", "--network", "none", "--read-only", image, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_auto_takes_the_registry_that_answers(runs, official):
    assert images(runs.first)["tagged"].startswith(f"clawfactory-gateway:{VERSION}-pull-"), runs.first.failures
    assert "gateway : Pull | Take the official image, or find that no registry answers" in changed(runs.first, "tagged")
    assert docker("image", "inspect", official.reference).returncode == 0


def test_auto_builds_where_no_registry_answers(built):
    assert built.image.startswith(f"clawfactory-gateway:{VERSION}-built-")
    assert shell(built.image, "openclaw --version").startswith("OpenClaw 2026.9.6")


def test_what_has_the_pinned_digest_is_pulled(runs, official):
    image = images(runs.second)["pinned"]
    assert image.startswith(f"clawfactory-gateway:{VERSION}-pull-") and image != images(runs.second)["tagged"]
    pinned = f"{official.reference.removesuffix(':2026.9.6')}@{official.digest}"
    assert docker("image", "inspect", pinned).returncode == 0
    assert shell(image, "openclaw --version").startswith("OpenClaw 2026.9.6")


def test_another_version_than_its_name_says_is_refused(runs):
    expected = f"the image has OpenClaw 2026.9.6, and gateway_version is 2026.9.5-{RUN}; correct that"
    message = messages(runs.second)["misnamed"]
    assert f"{named('misnamed')}: clawfactory-gateway:2026.9.5-{RUN}-pull-" in message
    assert expected in message
    assert docker("image", "ls", "--quiet", f"clawfactory-gateway:2026.9.5-{RUN}-*").stdout == ""


def test_a_fork_is_built_at_its_commit_and_stays_there(runs):
    for image, commit, changes in (
        (images(runs.first)["forked"], runs.commits[0], "first"),
        (images(runs.second)["moved"], runs.commits[1], "moved"),
    ):
        assert shell(image, "openclaw --version; cat /app/CHANGES") == f"OpenClaw fork {commit}\n{changes}"


@pytest.mark.parametrize("bot", ["tagged", "forked"])
def test_a_second_run_changes_nothing(runs, bot):
    assert images(runs.second)[bot] == images(runs.first)[bot]
    assert changed(runs.first, bot) != []
    assert changed(runs.second, bot) == []


REFUSED = {
    "wrong": ("gateway_image_digest", NO_DIGEST, "'pull'", "manifest unknown", "gateway_image_source to build"),
    "mistaken": ("gateway_image_digest", NO_DIGEST, "'auto'", "manifest unknown", "docker login"),
    "unreached": ("gateway_image_reference", CLOSED, "connection refused", "docker load"),
    "branch": ("gateway_fork_commit", "'main'", "40 hexadecimal digits"),
    "absent": ("gateway_fork_commit", NO_COMMIT, "gateway_fork_repository", "file://", "Push that commit"),
    "elsewhere": ("gateway_fork_repository", "http://127.0.0.1:1/fork.git", "let the machine reach"),
    "broken": ("gateway_fork_commit", "the fork has no pnpm-lock.yaml; commit one", "the corrected commit"),
}


@pytest.mark.parametrize("bot", REFUSED)
def test_message_names_bot_variable_value_and_way_out(runs, bot):
    message = {**messages(runs.first), **messages(runs.second)}[bot]
    for expected in (f"{named(bot)}: ", *REFUSED[bot]):
        assert expected in message, message


def test_the_fork_itself_is_asked_about_its_configuration(runs):
    for bot in ("forked", "moved"):
        assert "I want silence" in messages(runs.second)[bot]


def test_nothing_of_a_bot_is_made_before(runs):
    bots = {*runs.first.stats, *runs.second.stats}
    assert len(bots) == 12
    assert [path for path in ROOT.glob("*/*") if path.name in bots] == []
    assert not (ROOT / "allocations.json").exists() or bots.isdisjoint(
        json.loads((ROOT / "allocations.json").read_text())["bots"]
    )


def test_nothing_is_left_of_the_sources_and_the_login_is_not_shown(runs):
    assert list((ROOT / "build").glob(f"fork-*-{RUN}")) == []
    for run in (runs.first, runs.second):
        assert PASSWORD not in json.dumps(run.report) + run.stderr


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
    left = ["CHANGES", "build.mjs", "dist", "node_modules", "openclaw.mjs", "package.json", "pnpm-lock.yaml"]
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


@dataclass(frozen=True)
class Nowhere:
    """Runs on a machine without any network: with an empty engine, with a base image, and one for the base image."""

    empty: PlaybookRun
    based: PlaybookRun
    prepared: PlaybookRun
    written: list[str]


#: Bots of a machine without network, and what each is told besides its name, its source and the servers.
OFFLINE = {
    "either": ("gateway_image_source", "'auto'", "gateway_image_reference", "registry.npmjs.org", "pypi.org"),
    "maker": ("gateway_image_source", "'build'", "gateway_image_reference", "registry.npmjs.org", "pypi.org"),
    "taker": ("gateway_image_source", "'pull'", "gateway_image_reference", "ghcr.io/openclaw/openclaw", "to build"),
}


@pytest.fixture(scope="module")
def nowhere(built, tmp_path_factory) -> Iterator[Nowhere]:
    bots = {bot: {"gateway_image_source": told[1].strip("'")} for bot, told in OFFLINE.items()}
    hosts = inventory(bots)
    with OfflineMachine(tmp_path_factory.mktemp("nowhere")) as machine:
        assert machine.run(["docker", "image", "ls", "--quiet"]).stdout == "", "this would be the engine of the machine"
        empty = machine.play("site.yml", hosts)
        # A list of packages that is new enough is not fetched, which would be tried for a minute.
        machine.run(["touch", "/var/lib/apt/lists", "/var/lib/apt/periodic/update-success-stamp"])
        prepared = machine.play("playbooks/host.yml", inventory({"first": {}}))
        machine.load(built.base)
        based = machine.play("site.yml", hosts)
        assert machine.run(["docker", "ps", "--all", "--quiet"]).stdout == ""
        yield Nowhere(empty, based, prepared, machine.written(ROOT))


@pytest.mark.parametrize("engine", ["empty", "based"])
@pytest.mark.parametrize("bot", OFFLINE)
def test_no_network_and_no_image_is_one_clear_message(nowhere, bot, engine):
    message = messages(getattr(nowhere, engine))[bot]
    for expected in (f"{named(bot)}: ", *OFFLINE[bot], "docker save", "docker load"):
        assert expected in message, message


def test_servers_are_asked_from_where_the_build_would(nowhere):
    asked = "Ingredients | Ask the servers that a first image is made from"
    assert [result["cmd"][0] for result in results(nowhere.empty, asked).values()] == ["bash", "bash"]
    assert [result["cmd"][0] for result in results(nowhere.based, asked).values()] == ["docker", "docker"]


def test_without_network_nothing_of_a_bot_is_made(nowhere):
    # The machine's services are installed and started; there they also listen for the bots that this machine has.
    ours = (str(ROOT / "build"), str(ROOT / "lib"), str(ROOT / "disk"), str(ROOT / "jobs" / "lock"))
    others = [path for path in nowhere.written if not path.endswith("/jobs/jobs.sock")]
    assert [path for path in others if not path.startswith(ours)] == []
    assert [path for path in nowhere.written if RUN in path] == []


def test_no_network_and_no_base_image_is_one_clear_message(nowhere):
    message = messages(nowhere.prepared)["first"]
    for expected in (
        f"{named('first')}: ", "host_base_image_source", "'auto'", "host_base_image_reference",
        "docker.io/library/debian", "host_base_image_suite", "'trixie'", "mmdebstrap", "docker load",
    ):  # fmt: skip
        assert expected in message, message
