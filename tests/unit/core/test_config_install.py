from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clawfactory_core.config_install import ConfigRequest, apply_config, plan_config, restore_known_good
from clawfactory_core.errors import CoreError, InvalidInput, MissingDependency

GID = 20001


class OpenClaw:
    """Stands for the bot's own OpenClaw; remembers the files it was shown."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.shown: list[dict[str, str]] = []
        self.access: list[int] = []

    def __call__(self, candidate: Path) -> None:
        self.shown.append({path.name: path.read_text() for path in candidate.iterdir()})
        self.access = [stat.S_IMODE(path.stat().st_mode) for path in (candidate, *candidate.iterdir())]
        if self.refusal:
            raise self.refusal


@pytest.fixture
def bot(tmp_path, ownership) -> Path:
    (tmp_path / "bot1").mkdir()
    return tmp_path / "bot1"


def install(bot: Path, content: str, openclaw: OpenClaw, image_id: str = "sha256:aa") -> bool:
    plan = plan_config(ConfigRequest(bot / "config", content, GID, image_id, bot.parent / "validated"))
    if plan.changed:
        apply_config(plan, openclaw)
    return plan.changed


def tree(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_first_installation_makes_both_files(bot, ownership):
    assert install(bot, '{"a": 1}', OpenClaw())
    config = bot / "config"
    assert (config / "openclaw.json").read_text() == '{"a": 1}'
    assert (config / "operator.json5").read_text().startswith("{\n  // Yours.")
    assert (*ownership.of(config), stat.S_IMODE(config.stat().st_mode)) == (0, GID, 0o750)
    for path in config.iterdir():
        assert (*ownership.of(path), stat.S_IMODE(path.stat().st_mode)) == (0, GID, 0o640)
    assert not install(bot, '{"a": 1}', OpenClaw())


def test_plan_writes_nothing(bot):
    assert plan_config(ConfigRequest(bot / "config", "{}", GID, "", bot / "validated")).changed
    assert list(bot.iterdir()) == []


def test_candidate_is_shown_whole_and_readable_for_the_container(bot):
    openclaw = OpenClaw()
    install(bot, '{"a": 1}', openclaw)
    assert openclaw.shown == [tree(bot / "config")]
    assert sorted(openclaw.access) == [0o644, 0o644, 0o755]


def test_refusal_changes_nothing_and_leaves_no_candidate(bot):
    install(bot, '{"a": 1}', OpenClaw())
    before = tree(bot.parent)
    with pytest.raises(InvalidInput, match=r"nothing has been changed: gateway\.bogus: Unrecognized key"):
        install(bot, '{"a": 2}', OpenClaw(CoreError("gateway.bogus: Unrecognized key")))
    assert tree(bot.parent) == before
    assert [path.name for path in bot.iterdir()] == ["config"]
    assert len(list((bot.parent / "validated").iterdir())) == 1


def test_refused_configuration_is_asked_again(bot):
    with pytest.raises(InvalidInput):
        install(bot, "{}", OpenClaw(CoreError("no")))
    assert list(bot.iterdir()) == []
    openclaw = OpenClaw()
    install(bot, "{}", openclaw)
    assert len(openclaw.shown) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_interruption_leaves_no_candidate_and_is_not_called_a_refusal(bot, error):
    with pytest.raises(type(error)):
        install(bot, "{}", OpenClaw(error))
    assert list(bot.iterdir()) == list((bot.parent / "validated").iterdir()) == []


def test_missing_library_is_not_called_a_refusal(bot):
    with pytest.raises(MissingDependency) as caught:
        install(bot, "{}", OpenClaw(MissingDependency("docker")))
    assert caught.value.library == "docker"


def test_candidate_of_an_interrupted_run_is_not_mixed_in(bot):
    left = bot.parent / "validated" / ".bot1"
    left.mkdir(parents=True)
    (left / "old.json").write_text("x")
    openclaw = OpenClaw()
    install(bot, "{}", openclaw)
    assert set(openclaw.shown[0]) == {"openclaw.json", "operator.json5"}


@pytest.mark.parametrize("content", ["", "{", "{'a': 1}", "{} // comment"])
def test_content_that_is_not_json_is_refused(bot, content):
    with pytest.raises(InvalidInput, match="is not JSON"):
        install(bot, content, OpenClaw())


def test_operator_file_is_validated_and_never_overwritten(bot):
    install(bot, "{}", OpenClaw())
    operator = bot / "config" / "operator.json5"
    operator.write_text("{ mine: 1 } // é")
    openclaw = OpenClaw()
    install(bot, '{"a": 1}', openclaw)
    assert openclaw.shown[0]["operator.json5"] == operator.read_text() == "{ mine: 1 } // é"


def test_passed_validation_is_remembered(bot):
    install(bot, "{}", OpenClaw())
    (bot / "config" / "openclaw.json").unlink()
    openclaw = OpenClaw()
    install(bot, "{}", openclaw)
    assert openclaw.shown == []


@pytest.mark.parametrize("changed", ["content", "operator", "image"])
def test_remembered_validation_holds_for_the_same_question_only(bot, changed):
    install(bot, "{}", OpenClaw())
    (bot / "config" / "openclaw.json").unlink()
    if changed == "operator":
        (bot / "config" / "operator.json5").write_text("{}")
    openclaw = OpenClaw()
    content = '{"a": 1}' if changed == "content" else "{}"
    install(bot, content, openclaw, "sha256:bb" if changed == "image" else "sha256:aa")
    assert len(openclaw.shown) == 1


def test_unknown_image_is_asked_every_time(bot):
    openclaw = OpenClaw()
    for _ in range(2):
        install(bot, "{}", openclaw, image_id="")
        (bot / "config" / "openclaw.json").unlink()
    assert len(openclaw.shown) == 2
    assert list((bot.parent / "validated").iterdir()) == []


def test_known_good_is_kept_and_put_back(bot, ownership):
    config = bot / "config"
    install(bot, '{"v": 1}', OpenClaw())
    (config / "operator.json5").write_text("{ mine: 1 }")
    install(bot, '{"v": 2}', OpenClaw())
    assert tree(config / "known-good") == {"openclaw.json": '{"v": 1}', "operator.json5": "{ mine: 1 }"}
    assert restore_known_good(config, GID)
    assert (config / "openclaw.json").read_text() == '{"v": 1}'
    assert (*ownership.of(config / "openclaw.json"), stat.S_IMODE(os.stat(config / "openclaw.json").st_mode)) == (
        0, GID, 0o640,
    )  # fmt: skip


def test_nothing_is_put_back_after_the_first_installation(bot):
    install(bot, "{}", OpenClaw())
    assert not restore_known_good(bot / "config", GID)
    assert (bot / "config" / "openclaw.json").read_text() == "{}"


def test_known_good_is_never_older_than_the_last_change(bot):
    config = bot / "config"
    for version in (1, 2):
        install(bot, f'{{"v": {version}}}', OpenClaw())
    (config / "operator.json5").write_text("{ later: 1 }")
    config.chmod(0o777)
    assert install(bot, '{"v": 2}', OpenClaw())
    restore_known_good(config, GID)
    assert (config / "openclaw.json").read_text() == '{"v": 2}'
    assert (config / "operator.json5").read_text() == "{ later: 1 }"


def test_restore_shows_no_half_file_when_interrupted(bot, monkeypatch):
    for version in (1, 2):
        install(bot, f'{{"v": {version}}}', OpenClaw())
    before = tree(bot)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        restore_known_good(bot / "config", GID)
    assert tree(bot) == before
