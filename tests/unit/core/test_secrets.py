from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core import names
from clawfactory_core import secrets as core
from clawfactory_core.adapters.ssh_key import make_ssh_key
from clawfactory_core.errors import InvalidInput
from clawfactory_core.promotion.secret_rules import Fingerprints, find_secrets
from clawfactory_core.remote_key import RemoteKeyRequest
from clawfactory_core.secrets import SecretsRequest, apply_secrets, plan_secrets, read_env

RECIPIENT = "age1" + "q" * 58
OTHER_RECIPIENT = "age1" + "p" * 58
IDENTITY = "AGE-SECRET-KEY-1MADEUPFORTHETEST"
KEY = "sk-ant-0123456789abcdef"
SSH_URL = "ssh://git@git.example:2222/bot1.git"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
TOKEN = "3f9c27a1e84b5d06F1C2A7938E4D5B60"


def make_pair() -> tuple[str, str]:
    return IDENTITY, RECIPIENT


def no_pair() -> tuple[str, str]:
    raise AssertionError("a key pair was made")


@pytest.fixture
def root(tmp_path, ownership) -> Path:
    return tmp_path


def ask(root: Path, bot: str = "bot1", values: dict | None = None, used: tuple[str, ...] = (), **more):
    return SecretsRequest(root, bot, values or {}, used, gateway_uid=20001, controller_uid=30001, **more)


def env(root: Path, path: str, bot: str = "bot1") -> dict[str, str]:
    return read_env(root / "secrets" / bot / path)


def everything(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_missing_tokens_are_generated_and_agree(root):
    plan = apply_secrets(ask(root), make_pair)
    assert plan.generated == [*core.TOKENS, "snapshot.key", "device.key"]
    gateway, controller = env(root, "gateway.env"), env(root, "controller.env")
    assert set(gateway) == {"OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN"}
    assert gateway["CLAWFACTORY_AGENT_TOKEN"] == controller["CONTROLLER_AGENT_TOKEN"]
    assert controller.pop("CONTROLLER_AGE_RECIPIENT") == RECIPIENT
    tokens = {*gateway.values(), *controller.values()}
    assert len(tokens) == 4 and all(len(bytes.fromhex(token)) == 16 for token in tokens)
    assert env(root, "run/gateway.env") == gateway


def test_rerun_changes_nothing(root):
    request = ask(root, values={"ANTHROPIC_API_KEY": KEY}, used=("ANTHROPIC_API_KEY",))
    apply_secrets(request, make_pair)
    before = everything(root)
    plan = apply_secrets(request, no_pair)
    assert (plan.changed, plan.generated, plan.recipient) == (False, [], RECIPIENT)
    assert everything(root) == before


@pytest.fixture
def settled(root):
    """Asks whether the machine has what is wanted of bot1, after it was written once."""
    entry = {"slot": 0, "gateway_port": 18789, "controller_port": 8080, "host_ports": []}
    apply_secrets(ask(root, values={"ANTHROPIC_API_KEY": KEY}, used=("ANTHROPIC_API_KEY",)), make_pair)
    same = {"values": {"ANTHROPIC_API_KEY": KEY}, "used": ["ANTHROPIC_API_KEY"]}

    def look(**changed) -> bool:
        remote = {"remote": {"url": "", "host_keys": []}, "remote_key": ""}
        wanted = {**same, **remote, "snapshot_key": "machine", "snapshot_recipient": "", **changed}
        return core.settled_bots(root, "10.213.0.0/16", {"bot1": entry}, {"bot1": wanted, "bot2": wanted}) == {"bot1"}

    return look


def test_secrets_are_settled_after_they_were_written(root, settled):
    before = everything(root)
    assert settled() and settled(values={})
    assert everything(root) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"values": {"ANTHROPIC_API_KEY": KEY + "2"}},
        {"values": {"MOONSHOT_API_KEY": KEY}},
        {"values": {"CONTROLLER_TOKEN": "short"}},
        {"values": {"lower": KEY}},
        {"used": []},
        {"snapshot_key": "control", "snapshot_recipient": OTHER_RECIPIENT},
        {"remote": {"url": SSH_URL, "host_keys": [HOST_KEY]}},
        {"remote": {"url": SSH_URL, "host_keys": []}},
        {"remote_key": "no key"},
    ],
)
def test_secrets_that_are_wanted_otherwise_are_not_settled(settled, changed):
    assert not settled(**changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "gateway.env").chmod(0o644),
        lambda path: (path / "run/gateway.env").unlink(),
        lambda path: (path / "run/fingerprints.json").unlink(),
        lambda path: (path / "controller.env").write_text("no line\n"),
        lambda path: [(path / name).unlink() for name in ("snapshot.key", "snapshot.pub")],
        lambda path: (path.parent / "tokens.env").unlink(),
    ],
)
def test_secrets_that_are_damaged_are_not_settled(root, settled, damage):
    damage(root / "secrets/bot1")
    assert not settled()


def test_plan_writes_nothing(root):
    assert plan_secrets(ask(root), make_pair).changed
    assert list(root.iterdir()) == []


def test_files_are_private(root, ownership):
    apply_secrets(ask(root), make_pair)
    wanted = {
        "secrets": (0, 0, 0o700),
        "secrets/tokens.env": (0, 0, 0o600),
        "secrets/bot1": (0, 0, 0o700),
        "secrets/bot1/gateway.env": (0, 0, 0o600),
        "secrets/bot1/controller.env": (0, 0, 0o600),
        "secrets/bot1/snapshot.key": (0, 0, 0o600),
        "secrets/bot1/run": (0, 0, 0o700),
        "secrets/bot1/run/gateway.env": (20001, 20001, 0o400),
        "secrets/bot1/run/controller.env": (30001, 30001, 0o400),
        "secrets/bot1/run/fingerprints.json": (30001, 30001, 0o400),
    }
    found = {path: (*ownership.of(root / path), stat.S_IMODE((root / path).stat().st_mode)) for path in wanted}
    assert found == wanted


@pytest.mark.parametrize("token", core.TOKENS)
def test_token_of_the_inventory_wins_everywhere(root, token):
    apply_secrets(ask(root), make_pair)
    plan = apply_secrets(ask(root, values={token: TOKEN}), no_pair)
    assert plan.changed and plan.generated == []
    in_gateway, in_controller = core.TOKENS[token]
    assert not in_gateway or env(root, "run/gateway.env")[in_gateway] == TOKEN
    assert not in_controller or env(root, "run/controller.env")[in_controller] == TOKEN
    assert read_env(root / "secrets/tokens.env")[f"BOT1_{token}"] == TOKEN
    assert not apply_secrets(ask(root), no_pair).changed


def test_key_of_the_inventory_wins_and_is_kept_without_it(root):
    used = ("ANTHROPIC_API_KEY",)
    apply_secrets(ask(root, values={"ANTHROPIC_API_KEY": "old"}, used=used), make_pair)
    apply_secrets(ask(root, values={"ANTHROPIC_API_KEY": KEY}, used=used), make_pair)
    assert env(root, "run/gateway.env")["ANTHROPIC_API_KEY"] == KEY
    plan = apply_secrets(ask(root, used=used), make_pair)
    assert not plan.changed and "ANTHROPIC_API_KEY" in plan.available


def test_empty_value_of_the_inventory_does_not_erase_the_key(root):
    used = ("ANTHROPIC_API_KEY",)
    apply_secrets(ask(root, values={"ANTHROPIC_API_KEY": KEY}, used=used), make_pair)
    empty = ask(root, values={"ANTHROPIC_API_KEY": ""}, used=used)
    plan = apply_secrets(empty, make_pair)
    assert not plan.changed and "ANTHROPIC_API_KEY" in plan.available


def test_provider_that_leaves_takes_its_key_out_of_the_container_only(root):
    values = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": "sk-other"}
    apply_secrets(ask(root, values=values, used=tuple(values)), make_pair)
    before = core.generations(root, "bot1")
    apply_secrets(ask(root, values=values, used=("OPENAI_API_KEY",)), make_pair)
    assert "ANTHROPIC_API_KEY" not in env(root, "run/gateway.env")
    assert env(root, "run/gateway.env")["OPENAI_API_KEY"] == "sk-other"
    assert env(root, "gateway.env")["ANTHROPIC_API_KEY"] == KEY
    after = core.generations(root, "bot1")
    assert after["gateway"] != before["gateway"] and after["controller"] == before["controller"]


def test_operator_tokens_never_reach_the_gateway(root):
    values = {"CONTROLLER_TOKEN": TOKEN, "NODE_OPTIONS": "--inspect"}
    apply_secrets(ask(root, values=values), make_pair)
    for path in ("gateway.env", "run/gateway.env"):
        assert not {name for name in env(root, path) if name.startswith("CONTROLLER")}
    assert "NODE_OPTIONS" not in env(root, "run/gateway.env")


@pytest.mark.parametrize(
    "weak", ["", "changeme", "0" * 32, TOKEN[:31], TOKEN + "g", TOKEN * 5, " " + TOKEN, TOKEN + "\n"]
)
@pytest.mark.parametrize("token", core.TOKENS)
def test_weak_token_is_refused_without_showing_it(root, token, weak):
    with pytest.raises(InvalidInput) as caught:
        apply_secrets(ask(root, values={token: weak}), make_pair)
    assert token in str(caught.value)
    assert not weak.strip() or weak.strip() not in str(caught.value)
    assert not (root / "secrets/bot1").exists()


def test_shared_token_is_refused(root):
    with pytest.raises(InvalidInput, match="the same") as caught:
        apply_secrets(ask(root, values={"CONTROLLER_TOKEN": TOKEN, "OPENCLAW_GATEWAY_TOKEN": TOKEN}), make_pair)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("form", [str.lower, str.upper])
def test_token_that_the_bot_already_holds_is_refused_for_the_operator(root, form):
    apply_secrets(ask(root), make_pair)
    held = env(root, "gateway.env")["OPENCLAW_GATEWAY_TOKEN"]
    before = everything(root)
    with pytest.raises(InvalidInput, match="the same") as caught:
        apply_secrets(ask(root, values={"CONTROLLER_TOKEN": form(held)}), make_pair)
    assert held not in str(caught.value).lower()
    assert everything(root) == before


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\tb", "a\x00b", "a\x7f", "a\x85b", "a\u2028b", "a\ud800", 7, None])
def test_value_that_is_not_one_line_is_refused(root, value):
    with pytest.raises(InvalidInput, match="'OPENAI_API_KEY' has to be one line") as caught:
        apply_secrets(ask(root, values={"OPENAI_API_KEY": value}), make_pair)
    assert "b" not in str(value) or str(value) not in str(caught.value)


@pytest.mark.parametrize("name", ["openai", "1KEY", "A-B", "A B", "", "KEY\n", "KEY=X"])
def test_name_that_is_no_environment_name_is_refused(root, name):
    with pytest.raises(InvalidInput, match="environment name"):
        apply_secrets(ask(root, values={name: "x"}), make_pair)


@given(st.text())
def test_accepted_values_come_back_as_they_were(value):
    request = ask(Path("/nonexistent"), values={"OPENAI_API_KEY": value})
    if not value.isprintable():
        with pytest.raises(InvalidInput) as caught:
            core._check_values(request)
        assert len(value) < 8 or value not in str(caught.value)
        return
    core._check_values(request)
    text = core.format_env({"A": "1", "OPENAI_API_KEY": value, "Z": "2"})
    lines = dict(line.split("=", 1) for line in text.encode().decode().splitlines())
    assert lines == {"A": "1", "OPENAI_API_KEY": value, "Z": "2"}


def test_key_pair_is_never_replaced(root):
    apply_secrets(ask(root), make_pair)
    private = root / "secrets/bot1/snapshot.key"
    kept = private.read_bytes()
    private.chmod(0o644)
    plan = apply_secrets(ask(root), no_pair)
    assert plan.changed and private.read_bytes() == kept
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_private_key_taken_off_the_machine_is_not_made_again(root):
    apply_secrets(ask(root), make_pair)
    (root / "secrets/bot1/snapshot.key").unlink()
    plan = apply_secrets(ask(root), no_pair)
    # What is no longer on the machine is no longer looked for.
    assert [change.spec.path.name for change in plan.files.changes] == ["fingerprints.json"]
    plan = apply_secrets(ask(root), no_pair)
    assert (plan.changed, plan.recipient) == (False, RECIPIENT)


def test_private_key_without_public_one_is_refused(root):
    apply_secrets(ask(root), make_pair)
    (root / "secrets/bot1/snapshot.pub").unlink()
    before = everything(root)
    with pytest.raises(InvalidInput, match="age-keygen -y") as caught:
        apply_secrets(ask(root), no_pair)
    assert IDENTITY not in str(caught.value)
    assert everything(root) == before


@pytest.mark.parametrize("damaged", ["", "age1short", IDENTITY])
def test_damaged_public_key_is_refused_without_showing_it(root, damaged):
    apply_secrets(ask(root), make_pair)
    (root / "secrets/bot1/snapshot.pub").write_text(damaged)
    with pytest.raises(InvalidInput, match=r"snapshot\.pub") as caught:
        apply_secrets(ask(root), no_pair)
    assert not damaged or damaged not in str(caught.value)


def test_control_mode_keeps_no_private_key(root):
    request = ask(root, snapshot_key="control", snapshot_recipient=OTHER_RECIPIENT)
    plan = apply_secrets(request, no_pair)
    assert (plan.recipient, "snapshot.key" in plan.generated) == (OTHER_RECIPIENT, False)
    assert not (root / "secrets/bot1/snapshot.key").exists()
    assert env(root, "run/controller.env")["CONTROLLER_AGE_RECIPIENT"] == OTHER_RECIPIENT
    assert not apply_secrets(request, no_pair).changed


def test_control_mode_leaves_a_private_key_that_is_there(root):
    apply_secrets(ask(root), make_pair)
    kept = (root / "secrets/bot1/snapshot.key").read_bytes()
    apply_secrets(ask(root, snapshot_key="control", snapshot_recipient=OTHER_RECIPIENT), no_pair)
    assert (root / "secrets/bot1/snapshot.key").read_bytes() == kept


@pytest.mark.parametrize("recipient", ["", "age1", RECIPIENT + "q", RECIPIENT + "\n", RECIPIENT.upper(), IDENTITY])
def test_control_mode_refuses_what_is_no_recipient(root, recipient):
    with pytest.raises(InvalidInput, match="secrets_snapshot_recipient") as caught:
        apply_secrets(ask(root, snapshot_key="control", snapshot_recipient=recipient), no_pair)
    assert IDENTITY not in str(caught.value)
    assert not (root / "secrets/bot1").exists()


def test_registry_holds_every_bot_and_forgets_one(root):
    for bot in ("bot1", "bot1-b", "2nd"):
        apply_secrets(ask(root, bot), make_pair)
        assert not apply_secrets(ask(root, bot), make_pair).changed
    registry = root / "secrets/tokens.env"
    assert len(read_env(registry)) == 3 * len(core.TOKENS)
    assert core.remembers_secrets(root, "bot1")
    assert core.forget_secrets(root, "bot1")
    assert {names.env_prefix(bot) for bot in ("bot1-b", "2nd")} == {
        next(line.removesuffix(token) for token in core.TOKENS if line.endswith(token)) for line in read_env(registry)
    }
    assert not core.forget_secrets(root, "bot1") and not core.remembers_secrets(root, "bot1")


def test_registry_keeps_lines_of_others_and_comments_do_not_stop_it(root):
    (root / "secrets").mkdir()
    (root / "secrets/tokens.env").write_text("# note\n\nBOT9_CONTROLLER_TOKEN=x\n")
    apply_secrets(ask(root), make_pair)
    assert read_env(root / "secrets/tokens.env")["BOT9_CONTROLLER_TOKEN"] == "x"


@pytest.mark.parametrize("text", ["OK=1\n" + KEY, "OK=1\n" + KEY + "=1", "OK=1\nexport " + KEY])
def test_damaged_file_is_named_by_line_without_its_text(root, text):
    apply_secrets(ask(root), make_pair)
    path = root / "secrets/bot1/gateway.env"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"gateway\.env line 2") as caught:
        apply_secrets(ask(root), make_pair)
    assert KEY not in str(caught.value) and path.read_text() == text


def test_only_newlines_end_a_line(root):
    path = root / "f.env"
    path.write_text("A=x\u2028B=y\x85z\n", encoding="utf-8")
    assert read_env(path) == {"A": "x\u2028B=y\x85z"}


def test_file_that_is_not_text_is_refused(root):
    path = root / "f.env"
    path.write_bytes(b"A=\xff\xfe")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_env(path)


def test_nothing_printable_of_a_plan_holds_a_value(root):
    values = {"OPENAI_API_KEY": KEY, "CONTROLLER_TOKEN": TOKEN}
    request = ask(root, values=values, used=("OPENAI_API_KEY",))
    plan = apply_secrets(request, make_pair)
    shown = f"{request!r} {plan!r} {plan.files!r} {plan.files.diff()} {plan.generated} {plan.available}"
    held = {*env(root, "gateway.env").values(), *env(root, "controller.env").values(), IDENTITY} - {RECIPIENT}
    assert len(held) == 6
    assert [value for value in held if value in shown] == []


def test_generations_are_empty_before_the_first_run(root):
    assert core.generations(root, "bot1") == {"gateway": "", "controller": "", "fingerprints": ""}


def recognised(root: Path, *texts: str) -> list[bool]:
    prints = Fingerprints.load(root / "secrets/bot1/run/fingerprints.json")
    return [bool(find_secrets(text.encode(), "x", prints)) for text in texts]


def test_every_secret_is_recognised_in_what_the_bot_pushes(root):
    apply_secrets(ask(root, values={"OPENAI_API_KEY": "made-up-key", "PIN": "1234567"}), make_pair)
    values = [*env(root, "gateway.env").values(), *env(root, "controller.env").values(), IDENTITY]
    assert len(values) == 9
    assert recognised(root, *(value for value in values if value not in (RECIPIENT, "1234567"))) == [True] * 7
    assert recognised(root, RECIPIENT, "1234567", f"# public key: {RECIPIENT}") == [False] * 3


def test_fingerprints_follow_the_secrets_and_nothing_else(root):
    path = root / "secrets/bot1/run/fingerprints.json"
    apply_secrets(ask(root, values={"OPENAI_API_KEY": KEY}), make_pair)
    before, generation = path.read_bytes(), core.generations(root, "bot1")["fingerprints"]
    assert not apply_secrets(ask(root), no_pair).changed
    assert path.read_bytes() == before and generation
    apply_secrets(ask(root, values={"OPENAI_API_KEY": "another-key"}), no_pair)
    assert recognised(root, KEY, "another-key") == [False, True]
    assert core.generations(root, "bot1")["fingerprints"] != generation


def test_damaged_fingerprints_are_made_anew(root):
    path = root / "secrets/bot1/run/fingerprints.json"
    apply_secrets(ask(root), make_pair)
    path.write_text("{}")
    assert apply_secrets(ask(root), no_pair).changed
    assert recognised(root, IDENTITY) == [True]


def test_rotated_token_is_recognised(root):
    apply_secrets(ask(root), make_pair)
    old = env(root, "gateway.env")["OPENCLAW_GATEWAY_TOKEN"]
    core.rotate_gateway_token(root, "bot1", 20001)
    new = env(root, "gateway.env")["OPENCLAW_GATEWAY_TOKEN"]
    assert recognised(root, old, new, IDENTITY, env(root, "controller.env")["CONTROLLER_TOKEN"]) == [
        False,
        True,
        True,
        True,
    ]
    assert not apply_secrets(ask(root), no_pair).changed


def test_the_controllers_device_is_made_once_and_has_the_gateways_token(root):
    apply_secrets(ask(root), make_pair)
    device = root / "secrets/bot1/run/device"
    key = (root / "secrets/bot1/device.key").read_text()
    assert len(bytes.fromhex(key.strip())) == 32 and (device / "key").read_text() == key
    assert (device / "token").read_text().strip() == env(root, "gateway.env")["OPENCLAW_GATEWAY_TOKEN"]
    assert device.stat().st_mode & 0o777 == 0o500
    assert {path.stat().st_mode & 0o777 for path in device.iterdir()} == {0o400}
    assert recognised(root, key.strip()) == [True]
    assert not apply_secrets(ask(root), no_pair).changed
    assert key.strip() not in (root / "secrets/bot1/run/gateway.env").read_text()


def test_the_device_follows_a_rotated_token(root):
    apply_secrets(ask(root), make_pair)
    key = (root / "secrets/bot1/device.key").read_text()
    core.rotate_gateway_token(root, "bot1", 20001)
    device = root / "secrets/bot1/run/device"
    assert (device / "token").read_text().strip() == env(root, "gateway.env")["OPENCLAW_GATEWAY_TOKEN"]
    assert (device / "key").read_text() == key and recognised(root, key.strip()) == [True]


def test_a_token_is_rotated_where_no_device_was_made_yet(root):
    apply_secrets(ask(root), make_pair)
    device = root / "secrets/bot1/run/device"
    for path in (device / "key", device / "token", root / "secrets/bot1/device.key"):
        path.unlink()
    device.rmdir()
    core.rotate_gateway_token(root, "bot1", 20001)
    assert not device.exists()


def test_a_damaged_device_key_is_refused_without_its_text(root):
    apply_secrets(ask(root), make_pair)
    (root / "secrets/bot1/device.key").write_text("not-a-key-but-perhaps-secret")
    with pytest.raises(InvalidInput, match=r"device\.key holds no key; remove it") as refusal:
        apply_secrets(ask(root), no_pair)
    assert "perhaps" not in str(refusal.value)


def test_secrets_of_the_controller_never_reach_the_gateway(root):
    apply_secrets(ask(root, values={"CONTROLLER_REMOTE_TOKEN": KEY}, used=("CONTROLLER_REMOTE_TOKEN",)), make_pair)
    assert env(root, "run/controller.env")["CONTROLLER_REMOTE_TOKEN"] == KEY
    assert KEY not in {*env(root, "gateway.env").values(), *env(root, "run/gateway.env").values()}
    assert recognised(root, KEY) == [True]
    plan = apply_secrets(ask(root), no_pair)
    assert not plan.changed and env(root, "controller.env")["CONTROLLER_REMOTE_TOKEN"] == KEY


def test_tokens_of_an_incident_are_all_new_and_everything_agrees(root):
    apply_secrets(ask(root, values={"ANTHROPIC_API_KEY": KEY}, used=("ANTHROPIC_API_KEY",)), make_pair)
    before = {**env(root, "gateway.env"), **env(root, "controller.env")}
    assert core.rotate_tokens(root, "bot1") == list(core.ROTATED)
    gateway, controller = env(root, "gateway.env"), env(root, "controller.env")
    after = {**gateway, **controller}
    new = {name for name in after if after[name] != before[name]}
    assert new == {"OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN", "CONTROLLER_AGENT_TOKEN", "CONTROLLER_TOKEN"}
    assert after["CLAWFACTORY_AGENT_TOKEN"] == after["CONTROLLER_AGENT_TOKEN"]
    assert len({after[name] for name in new}) == 3 and all(len(after[name]) == 32 for name in new)
    assert env(root, "run/controller.env") == controller
    assert env(root, "run/gateway.env") == gateway
    assert recognised(root, *(after[name] for name in sorted(new))) == [True] * 4
    assert not apply_secrets(ask(root, used=("ANTHROPIC_API_KEY",)), no_pair).changed


def test_tokens_of_a_bot_that_has_none_are_not_rotated(root):
    with pytest.raises(InvalidInput, match=r"site\.yml -l bot1"):
        core.rotate_tokens(root, "bot1")
    assert not (root / "secrets" / "bot1").exists()


def over_ssh(root: Path, key: str = "", url: str = SSH_URL, **more):
    return ask(root, remote=RemoteKeyRequest(url, (HOST_KEY,), key), **more)


@pytest.fixture
def given_key(tmp_path_factory) -> str:
    return make_ssh_key(tmp_path_factory.mktemp("given"), "given")


def test_key_of_an_ssh_remote_is_made_once(root):
    plan = apply_secrets(over_ssh(root), make_pair, make_ssh_key)
    assert "remote.key" in plan.generated
    secrets, run = root / "secrets/bot1", root / "run/bot1/remote"
    private = (secrets / "remote.key").read_text()
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert sorted(path.name for path in secrets.iterdir() if path.name.startswith(("remote", "."))) == [
        "remote.key", "remote.pub",
    ]  # fmt: skip
    assert stat.S_IMODE((secrets / "remote.key").stat().st_mode) == 0o600
    kept = {path.name: path.read_text() for path in run.iterdir()}
    assert kept == {
        "key": private,
        "key.pub": (secrets / "remote.pub").read_text(),
        "known_hosts": f"[git.example]:2222 {HOST_KEY}\n",
        "passwd": "clawfactory:x:30001:30001::/nonexistent:/bin/sh\n",
    }
    assert kept["key.pub"].startswith("ssh-ed25519 ") and kept["key.pub"].endswith(" clawfactory-bot1\n")
    again = apply_secrets(over_ssh(root), no_pair)
    assert not again.changed and again.generated == []
    assert private not in repr(plan) and private.splitlines()[1] not in repr(plan.files.diff())


def test_given_key_wins_and_stays(root, given_key):
    apply_secrets(over_ssh(root), make_pair, make_ssh_key)
    assert apply_secrets(over_ssh(root, given_key), no_pair).changed
    for path in ("secrets/bot1/remote.key", "run/bot1/remote/key"):
        assert (root / path).read_text() == given_key
    assert not apply_secrets(over_ssh(root), no_pair).changed


def test_remote_that_is_left_takes_the_key_from_the_controller(root, given_key):
    apply_secrets(over_ssh(root, given_key), make_pair)
    apply_secrets(over_ssh(root, url="https://git.example/bot1.git"), no_pair)
    assert not (root / "run/bot1/remote").exists()
    assert (root / "secrets/bot1/remote.key").read_text() == given_key
    assert not apply_secrets(over_ssh(root, url=""), no_pair).changed


def test_ssh_key_is_recognised_in_a_push_by_each_of_its_lines(root, given_key):
    apply_secrets(over_ssh(root, given_key), make_pair)
    for change in (lambda: None, lambda: core.rotate_tokens(root, "bot1"),
                   lambda: core.rotate_gateway_token(root, "bot1", 20001)):  # fmt: skip
        change()
        found = Fingerprints.load(root / "secrets/bot1/run/fingerprints.json")
        for line in given_key.splitlines()[1:-1]:
            assert find_secrets(f"x {line} x".encode(), "x", found), len(line)
    for harmless in ("-----BEGIN", (root / "secrets/bot1/remote.pub").read_text(), HOST_KEY):
        assert not find_secrets(harmless.encode(), "x", found)


@pytest.mark.parametrize("more", [{"url": "ssh://git@-oProxyCommand=x/y"}, {"key": "hunter2"}])
def test_unusable_remote_changes_nothing(root, more):
    with pytest.raises(InvalidInput) as caught:
        apply_secrets(over_ssh(root, **more), make_pair, make_ssh_key)
    assert "hunter2" not in str(caught.value)
    assert not (root / "secrets/bot1").exists() and not (root / "run").exists()
