"""Changing the operator's configuration, where the gateway is a file and OpenClaw says what the test wants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawfactory_core import audit as audit_log
from clawfactory_core.config_check import Problem, asking_image, read_report
from clawfactory_core.config_edit import (
    ConfigChange,
    Outdated,
    PutBack,
    Refused,
    check,
    describe,
    digest_of,
    save,
    settle,
)
from clawfactory_core.config_install import restore_known_good
from clawfactory_core.errors import Conflict, CoreError
from tests.unit.core.promotion.promotion_machine import BOT, SECRET, FileGateway, Machine, same_user

OLD = "{\n  // mine\n}\n"
NEW = "{\n  // mine, and longer\n  logging: {level: 'debug'},\n}\n"
MANAGED = '{"$include": "./operator.json5", "gateway": {"port": 18789}}'
VALID = '{"valid": true, "path": "/etc/openclaw/openclaw.json"}'


class Gateway(FileGateway):
    """One that never gets ready with a certain text."""

    operator: Path

    def ready(self, seconds: float) -> bool:
        return super().ready(seconds) and "break" not in self.operator.read_text()


class OpenClaw:
    """Says what the test wants, and remembers what it saw."""

    def __init__(self, said: str = VALID) -> None:
        self.said = said
        self.seen: list[dict[str, str]] = []

    def __call__(self, candidate: Path) -> str:
        assert candidate.stat().st_mode & 0o777 == 0o755
        self.seen.append({path.name: path.read_text() for path in candidate.iterdir()})
        return self.said


@pytest.fixture
def machine(tmp_path, monkeypatch, ownership) -> Machine:
    same_user(monkeypatch)
    machine = Machine(tmp_path)
    directory = machine.repositories / "config"
    directory.mkdir()
    (directory / "operator.json5").write_text(OLD)
    (directory / "openclaw.json").write_text(MANAGED)
    gateway = Gateway(machine.gateway.file, machine.gateway.approved)
    gateway.operator = directory / "operator.json5"
    machine.gateway = gateway
    return machine


def test_ollama_is_asked_at_the_managed_address_whatever_the_operator_writes(machine, monkeypatch):
    from clawfactory_core import ollama
    from clawfactory_core.jobs.config_kinds import CONFIG_WORK
    from clawfactory_core.jobs.work import Work

    asked = []

    def answer(self, method, path, body=None):
        asked.append((self.host, self.port, path))
        return {"models": []}

    monkeypatch.setattr(ollama._Asking, "__call__", answer)
    directory = machine.repositories / "config"
    provider = '{"api": "ollama", "baseUrl": "%s"}'
    managed = provider % "http://host.docker.internal:11434"
    (directory / "openclaw.json").write_text(f'{{"models": {{"providers": {{"ollama": {managed}}}}}}}')
    (directory / "operator.json5").write_text(f"{{models: {{providers: {{evil: {provider % 'http://10.9.9.9:80'}}}}}}}")
    work = Work(machine.root, BOT, "ollama_info", "operator", "dashboard", {})
    found = CONFIG_WORK["ollama_info"](work, lambda progress: None)
    assert [one["id"] for one in found["providers"]] == ["ollama"]
    assert asked == [("127.0.0.1", 11434, "/api/tags")]


def text_of(machine: Machine) -> str:
    return (machine.repositories / "config" / "operator.json5").read_text()


def events(machine: Machine) -> list[dict]:
    path = machine.root / "audit" / f"{BOT}.jsonl"
    assert audit_log.verify(path).problems == ()
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def change(machine: Machine, text: str | None = NEW, base: str = "", openclaw: OpenClaw | None = None, **more):
    wanted = ConfigChange(text, base or digest_of(text_of(machine)), "operator")
    return save(machine.bot, wanted, gateway=machine.gateway, ask=openclaw or OpenClaw(), **more)


class TestSave:
    def test_text_is_kept_as_it_is_and_the_gateway_restarted(self, machine):
        phases: list[str] = []
        openclaw = OpenClaw()
        done = change(machine, openclaw=openclaw, report=lambda progress: phases.append(progress.phase))
        assert done == {"result": "saved", "from": digest_of(OLD), "to": digest_of(NEW), "restarted": True}
        assert text_of(machine) == NEW and machine.gateway.did == ["running", "restart", "ready"]
        assert openclaw.seen == [{"operator.json5": NEW, "openclaw.json": MANAGED}]
        assert phases == ["validating", "restarting"]
        (event,) = events(machine)
        assert (event["event"], event["actor"], event["source"]) == ("config.saved", "operator", "dashboard")
        assert (event["from"], event["to"], event["reverted"]) == (digest_of(OLD), digest_of(NEW), False)
        assert "debug" not in json.dumps(event)

    def test_file_is_the_gateways_to_read_only(self, machine, ownership):
        change(machine)
        path = machine.repositories / "config" / "operator.json5"
        assert path.stat().st_mode & 0o777 == 0o640

    def test_what_was_there_is_known_good(self, machine):
        change(machine)
        assert describe(machine.bot)["known_good"] == {"text": OLD, "digest": digest_of(OLD)}
        assert restore_known_good(machine.repositories / "config", 0) and text_of(machine) == OLD

    def test_the_same_text_changes_nothing(self, machine):
        openclaw = OpenClaw()
        assert change(machine, OLD, openclaw=openclaw)["result"] == "unchanged"
        assert machine.gateway.did == [] and openclaw.seen == [] and events(machine) == []

    def test_a_bot_that_does_not_run_is_not_started(self, machine):
        machine.gateway.write(running=False)
        assert change(machine)["restarted"] is False
        assert machine.gateway.did == ["running"] and text_of(machine) == NEW

    def test_two_editors(self, machine):
        base = digest_of(OLD)
        change(machine, base=base)
        with pytest.raises(Outdated, match="load it again"):
            change(machine, "{a: 1}", base=base)
        assert text_of(machine) == NEW

    def test_a_change_while_openclaw_looks_at_it(self, machine):
        class Meanwhile(OpenClaw):
            def __call__(self, candidate: Path) -> str:
                machine.gateway.operator.write_text("{ /* by site.yml */ }")
                return super().__call__(candidate)

        with pytest.raises(Outdated):
            change(machine, openclaw=Meanwhile())
        assert text_of(machine) == "{ /* by site.yml */ }" and events(machine) == []

    def test_a_locked_bot_is_left_alone(self, machine):
        machine.lock()
        with pytest.raises(Conflict, match="locked"):
            change(machine)
        assert text_of(machine) == OLD and machine.gateway.did == []


class TestRefused:
    def test_openclaws_issues_come_with_their_lines(self, machine):
        said = {"valid": False, "issues": [{"path": "logging.level", "message": "Invalid input"}]}
        with pytest.raises(Refused, match=r"nothing has been changed: line 3: logging\.level Invalid input"):
            change(machine, openclaw=OpenClaw(json.dumps(said)))
        assert text_of(machine) == OLD and machine.gateway.did == [] and events(machine) == []
        assert not list((machine.root / "build").iterdir())

    @pytest.mark.parametrize(
        ("text", "path", "line"),
        [
            ("{\n tools: {elevated: {enabled: true}},\n}", "tools.elevated", 2),
            ("{\n\n gateway: {auth: {mode: 'none'}}}", "gateway.auth", 3),
            ("{gateway: null}", "gateway", 1),
            ("{proxy: {enabled: false}}", "proxy", 1),
            ("{agents: {entries: {main: {\n sandbox: {mode: 'off'}}}}}", "agents.entries.main.sandbox", 2),
            ("{$include: '/etc/passwd'}", "$include", 1),
            ("{models: {providers: {x: {\n apiKey: 'sk-plain'}}}}", "models.providers.x.apiKey", 2),
        ],
    )
    def test_what_is_not_the_operators_to_set_there(self, machine, text, path, line):
        openclaw = OpenClaw()
        problems = check(machine.bot, text, openclaw)
        assert (path, line) in [(problem.path, problem.line) for problem in problems]
        assert openclaw.seen == [] and "sk-plain" not in str(problems)

    @pytest.mark.parametrize("text", ["", "{", "[]", "5", "{a: 1, a: 2}"])
    def test_what_is_no_object(self, machine, text):
        (problem,) = check(machine.bot, text, OpenClaw())
        assert problem.line == 1

    def test_large_text(self, machine):
        (problem,) = check(machine.bot, "/*" + "x" * 65536 + "*/ {}", OpenClaw())
        assert "65536 bytes" in problem.message

    @pytest.mark.parametrize("said", ["", "nonsense", "[]", "{}", '{"valid": "yes"}', '{"valid": false, "issues": 5}'])
    def test_no_report_is_no_yes(self, machine, said):
        with pytest.raises(CoreError, match="did not say"):
            change(machine, openclaw=OpenClaw(said))
        assert text_of(machine) == OLD

    def test_refusal_without_an_issue_is_one(self):
        assert read_report('{"valid": false, "issues": []}')

    def test_issue_in_the_managed_part_has_no_line(self, machine):
        said = {
            "valid": False,
            "issues": [{"path": "gateway.port", "message": "no"}, {"path": "<root>", "message": "x"}],
        }
        found = check(machine.bot, NEW, OpenClaw(json.dumps(said)))
        assert found == [Problem("gateway.port", "no"), Problem("<root>", "x")]

    def test_bot_without_a_container(self, machine):
        with pytest.raises(Conflict, match=r"site\.yml"):
            asking_image(machine.bot.directory / "gateway.json", BOT, 20001)


class TestPutBack:
    def test_valid_but_bad(self, machine):
        with pytest.raises(PutBack, match="not ready within 10 s"):
            change(machine, "{ // break\n}")
        assert text_of(machine) == OLD
        assert machine.gateway.did == ["running", "restart", "ready", "running", "restart", "ready"]
        (event,) = events(machine)
        assert event["event"] == "config.put_back" and SECRET not in json.dumps(event)
        assert not (machine.bot.directory / "config-change.json").exists()

    def test_the_way_back_stays_the_one_of_before(self, machine):
        change(machine)
        with pytest.raises(PutBack):
            change(machine, "{ // break\n}")
        assert text_of(machine) == NEW and describe(machine.bot)["known_good"]["text"] == OLD

    def test_an_engine_that_refuses(self, machine):
        machine.gateway.fails = {"restart"}
        with pytest.raises(PutBack, match="refused to restart"):
            change(machine)
        assert text_of(machine) == OLD and events(machine)[0]["problem"]


class TestRevert:
    def test_there_and_back(self, machine):
        change(machine)
        done = change(machine, None)
        assert done["result"] == "saved" and text_of(machine) == OLD
        assert events(machine)[-1]["reverted"] is True
        change(machine, None)
        assert text_of(machine) == NEW

    def test_the_managed_part_stays_the_machines(self, machine):
        change(machine)
        (machine.repositories / "config" / "openclaw.json").write_text('{"newer": 1}')
        change(machine, None)
        assert (machine.repositories / "config" / "openclaw.json").read_text() == '{"newer": 1}'

    def test_nothing_to_go_back_to(self, machine):
        with pytest.raises(Conflict, match="no configuration of before"):
            change(machine, None)


class TestCrash:
    def test_in_the_middle_is_undone(self, machine):
        class Killed(BaseException):
            pass

        def die(seconds: float) -> bool:
            raise Killed

        machine.gateway.ready = die
        with pytest.raises(Killed):
            change(machine)
        del machine.gateway.ready
        assert text_of(machine) == NEW
        assert settle(machine.bot, machine.gateway) and text_of(machine) == OLD
        assert events(machine)[-1]["reason"] == "the change was interrupted"
        assert not settle(machine.bot, machine.gateway)

    def test_before_anything_was_installed(self, machine):
        (machine.bot.directory / "config-change.json").write_text(json.dumps({"from": digest_of("{}")}))
        assert settle(machine.bot, machine.gateway)
        assert text_of(machine) == OLD and machine.gateway.did == [] and events(machine) == []

    def test_the_next_change_settles_it_first(self, machine):
        change(machine)
        (machine.bot.directory / "config-change.json").write_text(json.dumps({"from": digest_of(OLD)}))
        with pytest.raises(Outdated):
            change(machine, "{b: 1}", base=digest_of(NEW))
        assert text_of(machine) == OLD


def test_describe_survives_what_is_no_text(machine):
    (machine.repositories / "config" / "operator.json5").write_bytes(b"{ /* \xff */ }")
    found = describe(machine.bot)
    assert json.loads(json.dumps(found))["text"].encode() and found["known_good"] is None
    assert found["digest"] != digest_of(found["text"])
