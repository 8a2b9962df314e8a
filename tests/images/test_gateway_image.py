"""The gateway image as the role runs it: read-only, without capabilities, with a user of its own.

Takes the image of e2e's gateway, or the one named by CLAWFACTORY_TEST_GATEWAY_IMAGE.
"""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clawfactory_core.configuration import GatewaySettings, parse_bot, render_config

UID = 20001
TOKEN = "0123456789abcdef0123456789abcdef"
INSTALLER = ("node", "/opt/clawfactory/lib/install-packages.mjs")
START = "/opt/clawfactory/bin/gateway-start"
IS_NUMBER = "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng=="
#: Stands for the proxy of every bot here: the channels get as far as their first connection, which is refused.
CLOSED = "127.0.0.1"
CHANNELS = ["discord", "slack", "telegram"]
KEYS = {
    "OPENCLAW_GATEWAY_TOKEN": TOKEN,
    "ANTHROPIC_API_KEY": "sk-ant-none",
    "DISCORD_BOT_TOKEN": "MTAxMDEwMTAxMDEwMTAxMDEw.none.none",
    "SLACK_BOT_TOKEN": "xoxb-none",
    "SLACK_APP_TOKEN": "xapp-none",
    "TELEGRAM_BOT_TOKEN": "1:none",
}

pytestmark = pytest.mark.integration


def docker(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout)


@pytest.fixture(scope="module")
def image() -> str:
    image = os.environ.get("CLAWFACTORY_TEST_GATEWAY_IMAGE", "clawfactory-test/gateway:latest")
    missing = f"this engine has no image {image}: stages broker and e2e tag it; run ./clawfactory test e2e images"
    assert docker("image", "inspect", image).returncode == 0, missing
    return image


@dataclass
class Bot:
    """Directories of a bot, and its container."""

    image: str
    root: Path
    name: str = field(default_factory=lambda: f"gwi-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        for part in ("state/workspace/e2e_save", "save", "config", "secrets"):
            (self.root / part).mkdir(parents=True)
        plan = parse_bot("e2e", {"bot_providers": ["anthropic"], "bot_channels": CHANNELS})
        settings = GatewaySettings(port=18789, proxy_address=CLOSED, egress_address=CLOSED)
        (self.root / "config" / "openclaw.json").write_text(json.dumps(render_config(plan, settings)))
        (self.root / "config" / "operator.json5").write_text("{}")
        keys = "".join(f"{name}={value}\n" for name, value in KEYS.items())
        self.secrets(f"{keys}ODD=a\"b $(id) `x` 'q' \n")
        self.own()

    def own(self) -> None:
        subprocess.run(["chown", "-R", f"{UID}:{UID}", self.root / "state", self.root / "secrets"], check=True)

    def secrets(self, text: str) -> None:
        path = self.root / "secrets" / "gateway.env"
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o400)
        self.own()

    def manifest(self, manifest: object, lock: object = None) -> None:
        (self.root / "save" / "package.json").write_text(json.dumps(manifest))
        (self.root / "save" / "package-lock.json").unlink(missing_ok=True)
        if lock is not None:
            (self.root / "save" / "package-lock.json").write_text(json.dumps(lock))

    @property
    def installed(self) -> Path:
        return self.root / "state" / "installed" / "e2e_save"

    def run(
        self, *command: str, options: tuple[str, ...] = (), timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return docker("run", "--rm", *self.options(), *options, self.image, *command, timeout=timeout)

    def install(self) -> subprocess.CompletedProcess[str]:
        """Run the installer in the container that is there."""
        return docker("exec", self.name, *INSTALLER)

    def options(self) -> list[str]:
        hard = ["--read-only", "--user", f"{UID}:{UID}", "--cap-drop", "ALL", "--init", "--pids-limit", "512"]
        hard += ["--security-opt", "no-new-privileges", "--hostname", "e2e-gateway", "--name", self.name]
        hard += ["--tmpfs", f"/tmp:exec,uid={UID}", "--tmpfs", f"/home/node/.cache:uid={UID}"]
        mounts = ["state:/home/node/.openclaw", "save:/home/node/.openclaw/workspace/e2e_save:ro"]
        mounts += ["config:/etc/openclaw:ro", "secrets:/run/secrets:ro"]
        env = ["CLAWFACTORY_BOT=e2e", "OPENCLAW_CONFIG_PATH=/etc/openclaw/openclaw.json", "OPENCLAW_CONFIG_READONLY=1"]
        env += ["OPENCLAW_STATE_DIR=/home/node/.openclaw"]
        return (
            hard + [word for m in mounts for word in ("-v", f"{self.root}/{m}")] + [w for e in env for w in ("-e", e)]
        )


@pytest.fixture
def bot(image, tmp_path) -> Iterator[Bot]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files to the bot's user")
    found = Bot(image, tmp_path)
    yield found
    docker("rm", "-f", found.name)
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def refusing(image, tmp_path_factory) -> Iterator[Bot]:
    """A container without network, in which whatever is refused is tried in turn; it starts once for all of it."""
    found = Bot(image, tmp_path_factory.mktemp("refusing"))
    options = (*found.options(), "--network", "none")
    assert docker("run", "-d", *options, image, "sleep", "infinity").returncode == 0
    yield found
    docker("rm", "-f", found.name)
    shutil.rmtree(found.root)


def locked(
    resolved: str = "https://registry.npmjs.org/is-number/-/is-number-7.0.0.tgz", **entry: object
) -> dict[str, object]:
    package = {"version": "7.0.0", "resolved": resolved, "integrity": IS_NUMBER, **entry}
    root = {"dependencies": {"is-number": "^7.0.0"}}
    return {"name": "x", "lockfileVersion": 3, "packages": {"": root, "node_modules/is-number": package}}


WANTED = {"dependencies": {"is-number": "^7.0.0"}}


def test_the_gateway_gets_ready_with_packages_and_secrets(bot):
    bot.manifest({"dependencies": {"semver": "7.6.0"}})
    docker("run", "-d", *bot.options(), bot.image)
    deadline = time.monotonic() + 240
    while docker("exec", bot.name, "/opt/clawfactory/bin/gateway-healthcheck").returncode != 0:
        assert time.monotonic() < deadline, docker("logs", bot.name)
        time.sleep(1)
    show = 'tr "\\0" "\\n" < /proc/$(pgrep -o -f openclaw-gateway)/environ'
    environ = docker("exec", bot.name, "sh", "-c", show).stdout.splitlines()
    assert "ODD=a\"b $(id) `x` 'q' " in environ
    assert "NODE_PATH=/home/node/.openclaw/installed/e2e_save/node_modules" in environ
    path = next(line for line in environ if line.startswith("PATH=")).removeprefix("PATH=").split(":")
    assert path[0] == "/opt/clawfactory/bin"
    assert path[-1] == "/home/node/.openclaw/installed/e2e_save/node_modules/.bin"
    assert TOKEN not in json.dumps(json.loads(docker("inspect", bot.name).stdout))
    health = docker("exec", bot.name, "openclaw", "health", "--json")
    assert health.returncode == 0, health.stderr
    plugins = json.loads(docker("exec", bot.name, "openclaw", "plugins", "list", "--json").stdout)["plugins"]
    trust = {plugin["id"]: plugin["trust"]["reason"] for plugin in plugins if plugin["status"] == "loaded"}
    assert [trust.get(name) for name in CHANNELS] == ["trusted-official", "trusted-official", "bundled"]
    deadline = time.monotonic() + 60
    unreached = [rf"\[{name}\].*(ECONNREFUSED|Network request)" for name in CHANNELS]
    while not all(re.search(line, log := read_log(bot)) for line in unreached):
        assert time.monotonic() < deadline, log
        time.sleep(1)
    assert re.search("PluginTrustRefusal|PLUGIN_TRUST", log) is None, log


def read_log(bot: Bot) -> str:
    found = docker("logs", bot.name)
    return found.stdout + found.stderr


RECORDS = "/opt/clawfactory/lib/plugin-installs.json"
RECORD = ("sh", "-euc", f". /opt/clawfactory/lib/plugin-records.sh; record_plugins; cat {RECORDS}")


def test_plugins_are_recorded_until_openclaw_took_the_records_over(bot):
    plugins = bot.root / "state" / "plugins"
    records = bot.run(*RECORD).stdout
    assert sorted(json.loads(records)["installRecords"]) == ["discord", "slack"]
    assert [(path.name, path.read_text()) for path in plugins.iterdir()] == [("installs.json", records)]
    # As OpenClaw leaves them.
    (plugins / "installs.json").rename(plugins / "installs.json.migrated")
    (bot.root / "state" / "state").mkdir()
    (bot.root / "state" / "state" / "openclaw.sqlite").touch()
    assert bot.run(*RECORD).returncode == 0
    assert [path.name for path in plugins.iterdir()] == ["installs.json.migrated"]
    (plugins / "installs.json.migrated").write_text("those of another image")
    assert bot.run(*RECORD).returncode == 0
    assert (plugins / "installs.json").read_text() == records


@pytest.mark.parametrize("name", ["plugins", "plugins/installs.json", "plugins/installs.json.migrated"])
@pytest.mark.parametrize("kind", ["link", "loop", "fifo", "directory", "text"])
def test_what_stands_where_records_go_is_replaced_not_followed(bot, name, kind):
    path = bot.root / "state" / name
    path.parent.mkdir(exist_ok=True)
    treasure = bot.root / "state" / "treasure"
    treasure.mkdir()
    (treasure / "installs.json").write_text("untouched")
    if kind == "loop":
        path.symlink_to(path.name)
    elif kind == "link":
        path.symlink_to("treasure" if name == "plugins" else "../treasure/installs.json")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        (path / "installs.json").mkdir(parents=True)
    else:
        path.write_text("{")
    bot.own()
    done = bot.run(*RECORD, timeout=30)
    assert done.returncode == 0, done.stderr
    written = bot.root / "state" / "plugins" / "installs.json"
    assert (written.is_symlink(), written.parent.is_symlink(), written.read_text()) == (False, False, done.stdout)
    assert [entry.read_text() for entry in treasure.iterdir()] == ["untouched"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "OPENCLAW_GATEWAY_TOKEN in /run/secrets/gateway.env is empty"),
        ("OPENCLAW_GATEWAY_TOKEN=\n", "OPENCLAW_GATEWAY_TOKEN in /run/secrets/gateway.env is empty"),
        ("OPENCLAW_GATEWAY_TOKEN=a\nnot a line\n", "line 2"),
    ],
)
def test_start_refuses_wrong_secrets(bot, text, message):
    bot.secrets(text)
    done = bot.run()
    assert done.returncode == 78
    assert message in done.stderr


def test_start_refuses_missing_and_unreadable_secrets(bot):
    os.chown(bot.root / "secrets" / "gateway.env", 0, 0)
    unreadable = bot.run()
    assert (unreadable.returncode, "not readable for uid 20001" in unreadable.stderr) == (78, True)
    (bot.root / "secrets" / "gateway.env").unlink()
    missing = bot.run()
    assert (missing.returncode, "is missing" in missing.stderr) == (78, True)


@pytest.mark.parametrize("name", ["", "../e2e", "Bot", "-bot"])
def test_start_refuses_a_wrong_bot_name(bot, name):
    done = bot.run(options=("-e", f"CLAWFACTORY_BOT={name}"))
    assert done.returncode == 78
    assert "is not a bot name" in done.stderr


def test_the_command_line_works_without_secrets(bot):
    (bot.root / "secrets" / "gateway.env").unlink()
    assert bot.run("openclaw", "--version").stdout.startswith("OpenClaw ")


def test_packages_are_installed_once_and_again_when_something_changes(bot):
    bot.manifest(WANTED, locked())
    first = bot.run(*INSTALLER)
    assert first.returncode == 0, first.stderr
    assert "npm ci, as locked by package-lock.json" in first.stdout
    assert json.loads((bot.installed / "node_modules/is-number/package.json").read_text())["version"] == "7.0.0"
    # Without network: only what is unchanged can succeed.
    offline = ("--network", "none")
    assert "are unchanged" in bot.run(*INSTALLER, options=offline).stdout
    bot.manifest({**WANTED, "description": "changed"}, locked())
    changed = bot.run(*INSTALLER, options=offline)
    assert changed.returncode == 1
    assert changed.stderr.splitlines()[-1].startswith(
        "clawfactory: packages of e2e_save were not installed: npm ci ended"
    )
    assert (bot.installed / "node_modules/is-number").is_dir(), "the packages before stay where they are"
    assert bot.run(*INSTALLER).returncode == 0
    assert len(list(bot.installed.parent.iterdir())) == 2, "the link, and what it names"


def test_packages_go_when_the_manifest_goes(bot):
    bot.manifest(WANTED)
    assert bot.run(*INSTALLER).returncode == 0
    (bot.root / "save" / "package.json").unlink()
    assert bot.run(*INSTALLER).returncode == 0
    assert list(bot.installed.parent.iterdir()) == []


def test_install_scripts_and_npmrc_of_the_repository_are_ignored(bot):
    bot.manifest({**WANTED, "scripts": {"preinstall": "touch /home/node/.openclaw/ran", "postinstall": "exit 1"}})
    (bot.root / "save" / ".npmrc").write_text("ignore-scripts=false\nregistry=http://127.0.0.1:9/\n")
    assert bot.run(*INSTALLER).returncode == 0
    assert not (bot.root / "state" / "ran").exists()


def test_the_proxy_is_used(bot):
    bot.manifest(WANTED)
    done = bot.run(*INSTALLER, options=("-e", "CLAWFACTORY_PROXY_URL=http://127.0.0.1:9"))
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr


def test_a_lock_file_is_respected(bot):
    bot.manifest(WANTED, locked(integrity=IS_NUMBER.replace("41C", "42C")))
    wrong = bot.run(*INSTALLER)
    assert (wrong.returncode, "EINTEGRITY" in wrong.stderr) == (1, True)
    bot.manifest({"dependencies": {"is-number": "^7.0.0", "semver": "7.6.0"}}, locked())
    behind = bot.run(*INSTALLER)
    assert (behind.returncode, "in sync" in behind.stderr) == (1, True)
    bot.manifest(WANTED, locked("https://example.org/is-number-7.0.0.tgz"))
    elsewhere = bot.run(*INSTALLER)
    assert (elsewhere.returncode, "EALLOWREMOTE" in elsewhere.stderr) == (1, True)
    assert not bot.installed.exists()


def test_an_install_takes_a_bounded_time(bot):
    # Nothing answers on TEST-NET; an npm left alone would go on for minutes.
    bot.manifest(WANTED)
    options = ("-e", "CLAWFACTORY_PROXY_URL=http://192.0.2.1:3128", "-e", "CLAWFACTORY_INSTALL_TIMEOUT=2")
    started = time.monotonic()
    done = bot.run(*INSTALLER, options=options)
    assert time.monotonic() - started < 15
    assert done.returncode == 1
    assert "took longer than CLAWFACTORY_INSTALL_TIMEOUT=2 s" in done.stderr.splitlines()[-1]
    assert list(bot.installed.parent.iterdir()) == []


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_an_interrupted_install_leaves_the_packages_before(bot, signal):
    bot.manifest(WANTED)
    assert bot.run(*INSTALLER).returncode == 0
    bot.manifest({"dependencies": {"semver": "7.6.0"}})
    docker("run", "-d", *bot.options(), "-e", "CLAWFACTORY_PROXY_URL=http://192.0.2.1:3128", bot.image)
    time.sleep(2)
    started = time.monotonic()
    docker("kill", "--signal", signal, bot.name)
    docker("wait", bot.name)
    assert time.monotonic() - started < 30
    assert (bot.installed / "node_modules/is-number/package.json").is_file()
    docker("rm", bot.name)
    assert bot.run(*INSTALLER).returncode == 0
    assert sorted(path.name for path in (bot.installed / "node_modules").iterdir() if path.name[0] != ".")[-2:] == [
        "semver",
        "yallist",
    ]
    assert len(list(bot.installed.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "spec",
    [
        *(
            "file:../../secrets",
            "link:/etc",
            "/etc",
            "./x",
            "../x",
            ".",
            "~/x",
            "x.tgz",
            "user/repo",
            "github:user/repo",
        ),
        *("git+ssh://git@example.org/x.git", "git://example.org/x", "https://example.org/x.tgz"),
        *("workspace:*", "npm:a/b/c", 7),
    ],
)
@pytest.mark.parametrize("key", ["dependencies", "optionalDependencies"])
def test_only_packages_of_the_registry_are_installed(refusing, key, spec):
    refusing.manifest({key: {"x": spec}})
    done = refusing.install()
    assert done.returncode == 78
    assert "only versions of the registry" in done.stderr
    assert not refusing.installed.parent.exists()


HOSTILE_LOCKS = [
    {"lockfileVersion": 1, "dependencies": {}},
    {"lockfileVersion": 3, "packages": []},
    {"lockfileVersion": 3, "packages": {"../../../escape": {"version": "1.0.0"}}},
    {"lockfileVersion": 3, "packages": {"node_modules/../../escape": {"version": "1.0.0"}}},
    {"lockfileVersion": 3, "packages": {"node_modules/is-number": {"resolved": "/etc", "link": True}}},
    locked("git+ssh://git@example.org/x.git#abc"),
    locked("file:../../x"),
    locked("http://example.org/x.tgz"),
    [],
    None,
]


@pytest.mark.parametrize("lock", HOSTILE_LOCKS)
def test_hostile_lock_files_are_refused(refusing, lock):
    refusing.manifest(WANTED)
    (refusing.root / "save" / "package-lock.json").write_text(json.dumps(lock))
    done = refusing.install()
    assert done.returncode == 78, done
    assert "package-lock.json" in done.stderr or "only packages of the registry" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '"x"', "x" * 1_100_000),
        *('{"dependencies": []}', '{"dependencies": null}', '{"dependencies": {"a b": "1"}}'),
        *('{"dependencies": {"../x": "1"}}', '{"workspaces": ["../.."], "dependencies": {"a": "1"}}'),
        '{"overrides": {"a": {"b": "file:/etc"}}, "dependencies": {"a": "1"}}',
    ],
    ids=range(12),
)
def test_hostile_manifests_are_refused(refusing, text):
    refusing.manifest({})
    (refusing.root / "save" / "package.json").write_text(text)
    done = refusing.install()
    assert done.returncode == 78, done
    assert done.stderr.startswith("clawfactory: packages of e2e_save were not installed: ")
    assert len(done.stderr) < 1000


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_manifest_that_is_no_file_is_refused(bot, kind):
    path = bot.root / "save" / "package.json"
    if kind == "link":
        path.symlink_to("/run/secrets/gateway.env")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    done = bot.run(options=("--network", "none"))
    assert done.returncode == 78, done
    assert str(path.name) in done.stderr


def test_what_stands_where_packages_go_is_replaced_not_followed(bot):
    bot.manifest(WANTED)
    treasure = bot.root / "state" / "treasure"
    treasure.mkdir()
    (treasure / "file").touch()
    bot.installed.mkdir(parents=True)
    (bot.installed / "link").symlink_to("/home/node/.openclaw/treasure")
    bot.own()
    assert bot.run(*INSTALLER).returncode == 0
    assert bot.installed.is_symlink()
    assert (treasure / "file").exists()


def test_nothing_to_install_costs_little(bot):
    bot.manifest(WANTED)
    assert bot.run(*INSTALLER).returncode == 0
    loop = "for i in 1 2 3 4 5; do a=$(date +%s%N); %s >/dev/null; b=$(date +%s%N); echo $(((b-a)/1000000)); done"
    times = bot.run("sh", "-c", loop.replace("%s >", " ".join(INSTALLER) + " >")).stdout.split()
    assert min(map(int, times)) < 150
