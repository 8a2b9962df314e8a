"""``init`` answered through its prompts in a pseudo-terminal: what it writes, keeps, and makes at GitHub."""

from __future__ import annotations

import builtins
import os
import stat
import subprocess

import pexpect
import pytest
import yaml

from clawfactory_cli.setup.documents import Document, vault_of
from clawfactory_cli.setup.github import check_api
from clawfactory_core.errors import InvalidInput
from tests.support.github_setup import LOGIN, SHA, account
from tests.support.terminal import finish, plain

PASSWORD = "open sesame"
SETUP_TOKEN, REMOTE_TOKEN, KEY = "ghp_setup", "github_pat_machine", "sk-ant-made-up"
HOSTS = "---\n# Mine.\nbots:\n  hosts:\n    bot1:   # the first\n"
#: Question and answer, of a bot that has one provider.
OPENAI = [
    ("Model providers.*Numbers", "3"), ("Model of OpenAI", ""), ("Chat channels.*Numbers", ""),
    ("Embeddings.*Number", ""), ("OPENAI_API_KEY", KEY), ("bot's repository.*Number", "1"),
]  # fmt: skip


@pytest.fixture
def answer(terminal):
    """Runs init and answers: exit code, and what was on the screen."""
    (terminal.directory / "inventory").mkdir()
    (terminal.directory / "inventory/hosts.yml").write_text(HOSTS)
    (terminal.directory / "password").write_text(f"{PASSWORD}\n")

    def run(answers, *arguments, password=True, **variables):
        given = ["--vault-password-file", "password"] if password else []
        process = terminal.start("init", *arguments, "--inventory", "inventory", *given, **variables)
        screen = ""
        for question, typed in answers:
            process.expect(f"(?s){question}.*?: $")
            screen += process.before + process.after
            process.sendline(typed)
        code, rest = finish(process)
        return code, plain(screen + rest)

    return run


@pytest.fixture
def written(terminal):
    """Reads what init wrote of a bot: plain variables, and those of the vault."""

    def read(bot="bot1", password=PASSWORD):
        directory = terminal.directory / "inventory/host_vars" / bot
        main = directory / "main.yml"
        closed = (directory / "vault.yml").read_bytes() if (directory / "vault.yml").exists() else b""
        opened = vault_of(password.encode()).decrypt(closed) if closed else b"{}"
        return yaml.safe_load(main.read_text()) if main.exists() else {}, yaml.safe_load(opened)

    return read


def test_new_bot_on_another_machine(answer, written, terminal):
    answers = [
        ("Name of the bot", "Shop!"),
        ("Name of the bot", "shop"),
        ("Machine", "-oProxyCommand=x"),
        ("Machine", "admin@203.0.113.7"),
        ("Model providers.*Numbers", "9"),
        ("Numbers", "1 5"),
        ("Model of Anthropic", ""),
        ("Address of Ollama", ""),
        ("Model of Ollama", "qwen4"),
        ("Chat channels.*Numbers", "2"),
        ("Embeddings.*Number", ""),
        ("ANTHROPIC_API_KEY", KEY),
        ("TELEGRAM_BOT_TOKEN", ""),
        ("bot's repository.*Number", "1"),
    ]
    code, screen = answer(answers)
    assert code == 0, screen
    assert KEY not in screen, "a key is not shown while it is typed"
    assert "'Shop!' is not valid" in screen and "'9' is none of 1 to 7" in screen and "is no machine" in screen
    assert "without TELEGRAM_BOT_TOKEN" in screen
    assert written("shop") == (
        {"bot_providers": ["anthropic", {"name": "ollama", "model": "qwen4"}], "bot_channels": ["telegram"]},
        {"secrets_env": {"ANTHROPIC_API_KEY": KEY}},
    )
    assert f"up shop --inventory {terminal.directory / 'inventory'}" in " ".join(screen.split())
    hosts = (terminal.directory / "inventory/hosts.yml").read_text()
    assert hosts.startswith(HOSTS.rstrip()), "comments and order stay"
    assert yaml.safe_load(hosts)["bots"]["hosts"]["shop"] == {
        "ansible_connection": "ssh", "ansible_host": "203.0.113.7", "ansible_user": "admin",
    }  # fmt: skip
    assert (terminal.directory / "settings/instance").read_text() == "shop\n"


def test_second_run_keeps_everything_and_writes_nothing(answer, written, terminal):
    first = [
        ("Model providers.*Numbers", "1"), ("Model of Anthropic", "claude-sonnet-5"), ("Chat channels.*Numbers", "0"),
        ("ANTHROPIC_API_KEY", KEY), ("bot's repository.*Number", "1"),
    ]  # fmt: skip
    assert answer(first, "bot1")[0] == 0
    main = terminal.directory / "inventory/host_vars/bot1/main.yml"
    main.write_text(main.read_text().replace("bot_providers", "# mine\nbot_egress: 1\nbot_providers"))
    files = {file: (file.read_bytes(), file.stat().st_ino) for file in terminal.directory.rglob("inventory/**/*.yml")}
    assert len(files) == 3
    again = [
        ("Model providers.*Numbers", ""),
        ("Chat channels.*Numbers", ""),
        ("ANTHROPIC_API_KEY.*keeps the saved one", ""),
        ("Number", ""),
    ]
    code, screen = answer(again, "bot1")
    assert code == 0 and "wrote" not in screen and "its machine stays" in screen
    assert {file: (file.read_bytes(), file.stat().st_ino) for file in files} == files
    change = [
        ("Numbers", "1,6"),
        ("Model of OpenRouter", ""),
        ("Numbers", ""),
        ("ANTHROPIC", ""),
        ("OPENROUTER", "or"),
        ("Number", ""),
    ]
    assert answer(change, "bot1")[0] == 0
    assert "# mine" in main.read_text()
    assert written()[0]["bot_providers"] == [{"name": "anthropic", "model": "claude-sonnet-5"}, "openrouter"]
    assert written()[1] == {"secrets_env": {"ANTHROPIC_API_KEY": KEY, "OPENROUTER_API_KEY": "or"}}


def test_password_is_made_and_used_from_then_on(answer, written, terminal):
    first = [
        ("New password of the vault", ""),
        ("Numbers", "3"),
        ("Model of OpenAI", ""),
        ("Numbers", ""),
        ("Embeddings.*Number", ""),
        ("OPENAI_API_KEY", KEY),
        ("Number", "1"),
    ]
    code, screen = answer(first, "bot1", password=False)
    assert code == 0
    kept = terminal.directory / "settings/vault-password"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert kept.read_text().strip() not in screen
    assert written(password=kept.read_text().strip())[1] == {"secrets_env": {"OPENAI_API_KEY": KEY}}
    again = [("Numbers", ""), ("Numbers", ""), ("Number", ""), ("OPENAI_API_KEY.*keeps", ""), ("Number", "")]
    assert answer(again, "bot1", password=False)[0] == 0
    terminal.run("up", "bot1")
    assert ["--vault-password-file", str(kept)] == terminal.called["arguments"][3:5]


def test_password_that_is_typed_is_kept_nowhere(answer, written, terminal):
    first = [
        ("New password", PASSWORD),
        ("The same again", PASSWORD),
        ("Numbers", "3"),
        ("Model", ""),
        ("Numbers", ""),
        ("Embeddings.*Number", ""),
        ("OPENAI_API_KEY", KEY),
        ("Number", "1"),
    ]
    assert answer(first, "bot1", password=False)[0] == 0
    assert not (terminal.directory / "settings/vault-password").exists()
    assert written()[1] == {"secrets_env": {"OPENAI_API_KEY": KEY}}
    code, screen = answer([("Password of the vault", "wrong")], "bot1", password=False)
    assert code == 1 and "cannot be opened with this password" in screen and "Traceback" not in screen


def test_secrets_of_people_who_refer_to_the_vault_stay_together(answer, written, terminal):
    directory = terminal.directory / "inventory/host_vars/bot1"
    directory.mkdir(parents=True)
    (directory / "main.yml").write_text("secrets_env:\n  MY_KEY: '{{ vault_mine }}'\n")
    assert answer(OPENAI, "bot1")[0] == 0
    main, vault = written()
    assert main["secrets_env"] == {"MY_KEY": "{{ vault_mine }}", "OPENAI_API_KEY": "{{ vault_bot1_openai_api_key }}"}
    assert vault == {"vault_bot1_openai_api_key": KEY}


@pytest.fixture
def asked_for_embeddings(answer, terminal):
    """Runs init on a bot that is there with these variables; answers which embeddings, and else keeps everything."""

    def run(variables, *answers):
        directory = terminal.directory / "inventory/host_vars/bot1"
        directory.mkdir(parents=True, exist_ok=True)
        if variables:
            (directory / "main.yml").write_text(variables)
        typed = [("Embeddings.*Number" if number == 0 else "Number", each) for number, each in enumerate(answers)]
        keys = [("GEMINI_API_KEY", KEY), ("OPENAI_API_KEY", KEY)]
        return answer([("Numbers", ""), ("Numbers", ""), *typed, *keys, ("repository.*Number", "")], "bot1")

    return run


TWO_MAKERS = "bot_providers: [google, openai]\n"


def test_embeddings_go_into_the_settings_that_are_there(asked_for_embeddings, written, terminal):
    mine = "  logging: {level: debug}   # mine\n  memory: {search: {model: m, fallback: none}}\n"
    mine = f"{TWO_MAKERS}gateway_config:\n{mine}"
    code, screen = asked_for_embeddings(mine, "4", "2")
    assert code == 0 and "1  none" in screen and "2  Google" in screen and "'4' is none of 1 to 3" in screen
    expected = {"logging": {"level": "debug"}, "memory": {"search": {"fallback": "none", "provider": "gemini"}}}
    assert written()[0]["gateway_config"] == expected, "the model was that of another provider"
    assert "# mine" in (terminal.directory / "inventory/host_vars/bot1/main.yml").read_text()
    assert asked_for_embeddings("", "")[0] == 0
    assert written()[0]["gateway_config"] == expected
    assert asked_for_embeddings("", "1")[0] == 0
    assert written()[0]["gateway_config"]["memory"]["search"]["provider"] == "none"


@pytest.mark.parametrize("said", ["", "gateway_config: {memory: {search: {provider: voyage, model: v}}}\n"])
def test_embeddings_that_hold_already_change_nothing(asked_for_embeddings, written, said):
    """Without a word OpenClaw takes OpenAI's."""
    before = yaml.safe_load(f"{TWO_MAKERS}{said}")
    code, screen = asked_for_embeddings(yaml.safe_dump(before), "")
    assert code == 0 and ("voyage, as gateway_config says" in screen) == bool(said)
    assert written()[0].get("gateway_config") == before.get("gateway_config")


def test_settings_of_a_group_are_not_covered_by_those_of_the_bot(asked_for_embeddings, written, terminal):
    group = terminal.directory / "inventory/group_vars/bots/main.yml"
    group.parent.mkdir(parents=True)
    group.write_text("gateway_config:\n  logging: {level: debug}\n")
    code, screen = asked_for_embeddings(TWO_MAKERS)
    assert code == 0 and "group_vars/bots/main.yml has a gateway_config" in "".join(screen.split("\r\n"))
    assert "gateway_config" not in written()[0]


def test_settings_that_are_no_mapping_are_an_error(asked_for_embeddings, answer, terminal):
    directory = terminal.directory / "inventory/host_vars/bot1"
    directory.mkdir(parents=True)
    (directory / "main.yml").write_text("gateway_config: {memory: [x]}\n")
    code, screen = answer([("Numbers", ""), ("Numbers", "")], "bot1")
    assert code == 1 and "'memory' of gateway_config is no mapping" in screen


def test_ctrl_c_writes_nothing(answer, terminal):
    process = terminal.start("init", "bot1", "--inventory", "inventory", "--vault-password-file", "password")
    process.expect("(?s)Numbers.*: $")
    # Pressed again if it has to be: between looking for a signal and waiting for a key, Python may miss one.
    for _ in range(3):
        process.sendintr()
        if process.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=5) == 0:
            break
    code, screen = finish(process)
    assert code == 130 and "Traceback" not in screen
    assert not (terminal.directory / "inventory/host_vars").exists() and not (terminal.directory / "settings").exists()


def test_without_a_terminal_nothing_is_asked(terminal):
    command = [str(terminal.programs / "python"), "-P", "-m", "clawfactory_cli", "init"]
    done = subprocess.run(
        command, env=terminal.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "needs a terminal" in done.stderr


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("host_vars/bot1/vault.yml", "secrets_env: {}\n", "is not encrypted"),
        ("host_vars/bot1/main.yml", "a: [", "is no YAML"),
        ("host_vars/bot1/main.yml", "- a\n", "has no variables"),
        ("hosts.yml", "bots: [\n", "is no YAML"),
    ],
)
def test_file_that_cannot_be_used_is_named_and_stays(answer, terminal, file, text, said):
    path = terminal.directory / "inventory" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    code, screen = answer([], "bot1")
    assert code == 1 and said in " ".join(screen.split()) and path.name in screen
    assert path.read_text() == text


def test_vault_is_never_plain_on_the_disk(tmp_path, monkeypatch):
    """Everything that is opened for writing, and everything that is written."""
    opened, written, real_open, real_fdopen = [], [], os.open, os.fdopen

    def recording(path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            opened.append(str(path))
        return real_open(path, flags, *more, **named)

    class Recorded:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *ended):
            self._file.close()

        def write(self, data):
            written.append(data)
            return self._file.write(data)

        def __getattr__(self, name):
            return getattr(self._file, name)

    def refuse(path, mode="r", *more, **named):
        assert not set(mode) & set("wax+"), f"{path} opened for writing"
        return real_builtin(path, mode, *more, **named)

    real_builtin = builtins.open
    document = Document(tmp_path / "vault.yml", vault_of(b"password"))
    document.data["secrets_env"] = {"KEY": KEY}
    monkeypatch.setattr(os, "open", recording)
    monkeypatch.setattr(os, "fdopen", lambda *given, **named: Recorded(real_fdopen(*given, **named)))
    monkeypatch.setattr(builtins, "open", refuse)
    assert document.save()
    monkeypatch.undo()
    assert len(opened) == len(written) == 1
    assert written[0].startswith(b"$ANSIBLE_VAULT;") and KEY.encode() not in written[0]
    assert stat.S_IMODE((tmp_path / "vault.yml").stat().st_mode) == 0o600
    assert not document.save(), "nothing differs now"


AT_GITHUB = [
    ("Numbers", ""), ("Numbers", ""), ("bot's repository.*Number", "2"),
    ("Token that may make", "wrong"), ("Token that may make", SETUP_TOKEN),
]  # fmt: skip


def test_repository_rules_webhook_and_fork_are_made(answer, written, terminal):
    with account(SETUP_TOKEN) as github:
        code, screen = answer(
            [
                *AT_GITHUB,
                (f"Repository.*{LOGIN}/bot1", "octo-org"), ("Repository", "octo-org/bot1"),
                (f"Logins.*{LOGIN}", ""), ("CONTROLLER_REMOTE_TOKEN", REMOTE_TOKEN),
                ("Public https address", "http://bots.example.org"), ("Public https address", "https://bots.example.org"),
                ("OpenClaw:.*Number", "2"),
            ],
            "bot1", "--github-api", github.api,
        )  # fmt: skip
    assert code == 0, screen
    for secret in (SETUP_TOKEN, REMOTE_TOKEN):
        assert secret not in screen
    main, vault = written()
    hook_secret = vault["secrets_env"].pop("CONTROLLER_WEBHOOK_SECRET")
    assert vault == {"secrets_env": {"CONTROLLER_REMOTE_TOKEN": REMOTE_TOKEN}}, "the token for the set-up is not kept"
    web = f"http://{github.address}"
    assert main == {
        "bot_repository": f"{web}/octo-org/bot1.git", "controller_github_repository": "octo-org/bot1",
        "controller_github_api_url": github.api, "controller_github_actors": [LOGIN],
        "proxy_extra_hosts": ["bots.example.org"], "gateway_image_source": "fork",
        "gateway_fork_repository": f"{web}/octo-org/bot1-bot.git", "gateway_fork_commit": SHA,
    }  # fmt: skip
    (made,) = github.sent("POST", "/orgs/octo-org/repos")
    assert made["private"] is True and made["allow_squash_merge"] is False
    (tree,) = github.sent("POST", "/repos/octo-org/bot1/git/trees")
    modes = {each["path"]: each["mode"] for each in tree["tree"]}
    assert modes["workspace/bot1_save/package.json"] == "100644"
    (first,) = github.sent("POST", "/repos/octo-org/bot1/git/commits")
    assert first["parents"] == ["f" * 40]
    main_rules, others = github.repositories["octo-org/bot1"]["rulesets"]
    assert main_rules["bypass_actors"] == [] and main_rules["enforcement"] == "active"
    reviews = next(rule["parameters"] for rule in main_rules["rules"] if rule["type"] == "pull_request")
    assert reviews["required_approving_review_count"] == 1 and reviews["require_last_push_approval"]
    assert others["conditions"]["ref_name"]["exclude"][1] == "refs/heads/proposal/**"
    (hook,) = github.repositories["octo-org/bot1"]["hooks"]
    assert hook["events"] == ["pull_request"]
    assert hook["config"] == {
        "url": "https://bots.example.org/webhook/github", "content_type": "json", "secret": hook_secret,
        "insecure_ssl": "0",
    }  # fmt: skip
    (fork,) = github.sent("POST", "/repos/openclaw/openclaw/forks")
    assert fork == {"name": "bot1-bot", "default_branch_only": True, "organization": "octo-org"}
    assert not any(SETUP_TOKEN in f"{path}{body}" for _, path, body in github.requests)
    for file in terminal.directory.rglob("*"):
        assert not file.is_file() or SETUP_TOKEN.encode() not in file.read_bytes()


def test_second_run_makes_nothing_twice(answer, written):
    questions = [
        *AT_GITHUB, ("Repository", ""), ("Logins", ""), ("CONTROLLER_REMOTE_TOKEN", REMOTE_TOKEN),
        ("Public https address", ""), ("OpenClaw:.*Number", "1"),
    ]  # fmt: skip
    with account(SETUP_TOKEN) as github:
        github.branch = "trunk"
        assert answer(questions, "bot1", "--github-api", github.api)[0] == 0
        assert github.sent("POST", "/user/repos")[0]["name"] == "bot1"
        assert github.sent("POST", "/repos/octocat/bot1/branches/trunk/rename") == [{"new_name": "main"}]
        before = written()
        # Whose GitHub it is was kept, too.
        code, screen = answer([*questions[:2], ("Number.*2", ""), *questions[3:]], "bot1")
        assert code == 0 and "kept  octocat/bot1" in screen
        assert len(github.sent("POST", "/user/repos")) == 1
        assert len(github.repositories["octocat/bot1"]["rulesets"]) == 2
        assert written() == before and before[0]["controller_poll_seconds"] == 60


@pytest.fixture
def at_github(answer, terminal):
    """Runs init at a stand-in for GitHub on a bot that is there already; what is not answered is kept."""

    def run(github, plain_variables, fork="", webhook=""):
        directory = terminal.directory / "inventory/host_vars/bot1"
        directory.mkdir(parents=True, exist_ok=True)
        if plain_variables:
            github.repositories["octocat/bot1"] = {"settings": {}, "rulesets": [], "hooks": []}
            known = {"controller_github_repository": "octocat/bot1", "controller_github_actors": [LOGIN]}
            (directory / "main.yml").write_text(yaml.safe_dump(known | plain_variables))
        questions = [
            *AT_GITHUB[:2], ("bot's repository.*Number", ""), ("Token that may make", SETUP_TOKEN), ("Repository", ""),
            ("Logins", ""), ("CONTROLLER_REMOTE_TOKEN", ""), ("Public https address", webhook),
            ("OpenClaw:.*Number", fork),
        ]  # fmt: skip
        return answer(questions, "bot1", "--github-api", github.api)

    return run


def test_fork_that_is_no_longer_wanted_is_forgotten(at_github, written):
    forked = {"gateway_image_source": "fork", "gateway_fork_repository": "x", "gateway_fork_commit": SHA}
    with account(SETUP_TOKEN) as github:
        code, screen = at_github(github, forked, fork="1")
        assert code == 0, screen
        assert not set(forked) & set(written()[0])
        assert at_github(github, {"gateway_image_source": "build"})[0] == 0
        assert written()[0]["gateway_image_source"] == "build", "that is no fork"


@pytest.mark.parametrize("is_here", [True, False])
def test_fork_of_ones_own_stays_at_its_address(at_github, written, is_here):
    with account(SETUP_TOKEN) as github:
        server = f"http://{github.address}" if is_here else "https://git.example.org"
        forked = {"gateway_image_source": "fork", "gateway_fork_repository": f"{server}/team/claw.git"}
        github.repositories["team/claw"] = {"settings": {}, "rulesets": [], "hooks": []}
        code, screen = at_github(github, forked)
        assert code == 0, screen
        assert not github.sent("POST", "/repos/openclaw/openclaw/forks")
        assert written()[0]["gateway_fork_repository"] == f"{server}/team/claw.git"
        assert written()[0].get("gateway_fork_commit") == (SHA if is_here else None)


@pytest.mark.parametrize(
    ("address", "is_kept"),
    [
        ("git@127.0.0.1:octocat/bot1.git", True),
        ("ssh://git@127.0.0.1:2222/octocat/bot1.git", True),
        ("ssh://git@ssh.127.0.0.1:443/Octocat/bot1", True),
        ("git@127.0.0.1:octocat/other.git", False),
        ("git@git.example.org:octocat/bot1.git", False),
    ],
)
def test_repository_that_is_reached_by_ssh_stays_so(at_github, written, address, is_kept):
    with account(SETUP_TOKEN) as github:
        code, screen = at_github(github, {"bot_repository": address})
        assert code == 0, screen
        assert written()[0]["bot_repository"] == (address if is_kept else f"http://{github.address}/octocat/bot1.git")


def test_webhook_stays_below_its_path(at_github, written):
    with account(SETUP_TOKEN) as github:
        known = {"proxy_extra_hosts": ["bot1.example.org"]}
        assert at_github(github, known, webhook="https://bots.example.org/bot1/controller")[0] == 0
        code, screen = at_github(github, {})
        assert code == 0 and "[https://bots.example.org/bot1/controller]" in " ".join(screen.split())
        (hook,) = github.repositories["octocat/bot1"]["hooks"]
        assert hook["config"]["url"] == "https://bots.example.org/bot1/controller/webhook/github"
        assert written()[0]["proxy_extra_hosts"] == ["bot1.example.org", "bots.example.org"]


def test_rules_that_github_refuses_are_a_loud_failure(answer, written):
    with account(SETUP_TOKEN) as github:
        refusal = {"message": "Upgrade to GitHub Team to enable this feature."}
        github.refusals["POST /repos/octocat/bot1/rulesets"] = (403, refusal)
        questions = [
            *AT_GITHUB, ("Repository", ""), ("Logins", ""), ("CONTROLLER_REMOTE_TOKEN", ""),
            ("Public https address", ""), ("OpenClaw:.*Number", "1"),
        ]  # fmt: skip
        code, screen = answer(questions, "bot1", "--github-api", github.api)
    assert code == 1
    assert "octocat/bot1 is NOT protected" in screen and "Upgrade to GitHub Team" in screen
    assert written()[0]["controller_github_repository"] == "octocat/bot1", "what was answered is kept"


def test_without_a_token_nothing_is_made_there(answer, written):
    questions = [
        *AT_GITHUB[:3], ("Token that may make", ""), ("Repository", "octo-org/bot1"), ("Logins", "me, you"),
        ("CONTROLLER_REMOTE_TOKEN", ""), ("Public https address", ""),
    ]  # fmt: skip
    code, screen = answer(questions, "bot1")
    assert code == 0 and "nothing is made at GitHub" in screen
    assert written()[0]["controller_github_actors"] == ["me", "you"]
    assert written()[0]["bot_repository"] == "https://github.com/octo-org/bot1.git"


@pytest.mark.parametrize("url", ["http://api.example.org", "ftp://127.0.0.1/", "http://127.0.0.1.example.org/"])
def test_token_is_not_sent_in_the_open(url):
    with pytest.raises(InvalidInput, match="use https"):
        check_api(url)


def test_fork_under_another_name_is_an_error_and_not_waited_for(answer, written):
    with account(SETUP_TOKEN) as github:
        github.refusals["POST /repos/openclaw/openclaw/forks"] = (202, {"full_name": "octocat/openclaw"})
        questions = [
            *AT_GITHUB, ("Repository", ""), ("Logins", ""), ("CONTROLLER_REMOTE_TOKEN", ""),
            ("Public https address", ""), ("OpenClaw:.*Number", "2"),
        ]  # fmt: skip
        code, screen = answer(questions, "bot1", "--github-api", github.api)
    assert code == 1 and "octocat/openclaw; rename it to bot1-bot" in " ".join(screen.split())
    assert "gateway_fork_commit" not in written()[0]
