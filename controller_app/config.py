"""Settings of the controller: secrets from a mounted file, everything else from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from clawfactory_core.errors import InvalidInput
from clawfactory_core.promotion.ssh import is_ssh, parse_ssh
from clawfactory_core.tokens import token_problem

DEFAULT_SECRETS_FILE = Path("/run/secrets/controller.env")
DEFAULT_SOCKET = Path("/run/operator/controller.sock")

_ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_AGE_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")

#: What a link may start: editors, and pages on which one runs.
EDITOR_SCHEMES = (
    "vscode", "vscode-insiders", "vscodium", "cursor", "windsurf", "zed", "idea", "jetbrains", "subl", "txmt", "mvim",
    "https", "http",
)  # fmt: skip
_EDITOR_URL = re.compile(rf"(?:{'|'.join(EDITOR_SCHEMES)})://[A-Za-z0-9._~:/?#@!$&()*+,;=%{{}}-]{{1,400}}")

_LOGIN = r"[A-Za-z0-9-]{1,39}(?:\[bot\])?"


class SettingsError(InvalidInput):
    """The controller must not start with these settings. The text never contains the value of a secret."""


def _refuse_weak_token(secret: SecretStr) -> SecretStr:
    problem = token_problem(secret.get_secret_value())
    if problem:
        raise ValueError(problem)
    return secret


def _refuse_unprintable(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without blanks")
    return secret


def _require_age_recipient(value: str) -> str:
    if not _AGE_RECIPIENT.fullmatch(value):
        raise ValueError("must be an age X25519 recipient (age1 and 58 more characters)")
    return value


def _require_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _require_one_address(value: str) -> str:
    address, _, port = value.rpartition(":")
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        raise ValueError("must be an IPv4 address and a port, like 10.213.0.5:8090") from None
    if parsed.is_unspecified:
        # The controller is in two networks, and on one of them nothing may answer.
        raise ValueError("must name one address of the controller, not all of them")
    if not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise ValueError("must end in a port between 1 and 65535")
    return value


def _require_editor_url(value: str) -> str:
    if not value:
        return value
    if not _EDITOR_URL.fullmatch(value):
        raise ValueError(
            f"must be a URL of {', '.join(EDITOR_SCHEMES)}, like vscode://file/{{path}}:{{line}}, or empty"
        )
    names = re.findall(r"\{([^{}]*)\}", value)
    if "path" not in names or set(names) - {"path", "line"} or re.search(r"[{}]", re.sub(r"\{\w*\}", "", value)):
        raise ValueError("must hold {path}, may hold {line}, and no other braces")
    return value


def _refuse_login_in_url(value: str) -> str:
    if is_ssh(value):
        try:
            parse_ssh(value)  # a user belongs to it, a password is refused
        except InvalidInput as error:
            raise ValueError(str(error)) from None
    elif "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError("must not hold a login; put the token into CONTROLLER_REMOTE_TOKEN")
    return value


AbsolutePath = Annotated[Path, AfterValidator(_require_absolute)]
Token = Annotated[SecretStr, AfterValidator(_refuse_weak_token)]


class Secrets(BaseModel):
    """What the mounted secrets file must hold; further names in it are left alone."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    token: Token = Field(alias="CONTROLLER_TOKEN")
    agent_token: Token = Field(alias="CONTROLLER_AGENT_TOKEN")
    webhook_secret: Token = Field(alias="CONTROLLER_WEBHOOK_SECRET")
    age_recipient: Annotated[str, AfterValidator(_require_age_recipient)] = Field(alias="CONTROLLER_AGE_RECIPIENT")
    #: Of somebody else's making, so of any form. Empty where no remote is configured, or it wants no login.
    remote_token: Annotated[SecretStr, AfterValidator(_refuse_unprintable)] = Field(
        default=SecretStr(""), alias="CONTROLLER_REMOTE_TOKEN"
    )

    @model_validator(mode="after")
    def _refuse_shared_tokens(self) -> Secrets:
        # The bot holds the agent token and GitHub the webhook secret: neither may open the operator's door.
        values = [secret.get_secret_value().lower() for secret in (self.token, self.agent_token, self.webhook_secret)]
        if len(set(values)) != len(values):
            raise ValueError("CONTROLLER_TOKEN, CONTROLLER_AGENT_TOKEN and CONTROLLER_WEBHOOK_SECRET must all differ")
        return self


class Settings(BaseSettings):
    """Everything the controller is told. Built by :func:`load_settings`; tests build it directly."""

    model_config = SettingsConfigDict(env_prefix="CONTROLLER_", frozen=True, extra="ignore")

    secrets: Secrets
    bot: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
    #: Address of the gateway on the inside network; the port is 1 to 5 digits.
    gateway_url: str = Field(pattern=r"^http://[A-Za-z0-9.-]+:[0-9]{1,5}$")
    #: The promoted tree; its ``.git`` names the approved commit.
    approved_dir: AbsolutePath
    socket: AbsolutePath = DEFAULT_SOCKET
    #: ``address:port`` on the inside network, the one place where the bot reaches the controller.
    agent_address: Annotated[str, AfterValidator(_require_one_address)]
    #: Holds ``origin.git``, which is read-only here, and ``proposals.git``.
    repositories_dir: AbsolutePath = Path("/srv/repositories")
    #: What was promoted and denied; written by the host, read-only here.
    promotion_dir: AbsolutePath = Path("/srv/promotion")
    #: The encrypted snapshots, read-only here.
    snapshots_dir: AbsolutePath = Path("/srv/snapshots")
    #: Where the host takes requests; see :mod:`controller_app.services.jobs`.
    jobs_socket: AbsolutePath = Path("/run/jobs/jobs.sock")
    #: The controller's identity at the gateway; a directory, so that a new token in it is seen at once.
    device_dir: AbsolutePath = Path("/run/device")
    #: Where the broker takes calls of the controller.
    broker_socket: AbsolutePath = Path("/run/broker/docker.sock")
    #: By which the bot's secrets are recognised without being here.
    fingerprints_file: AbsolutePath = Path("/run/secrets/fingerprints.json")

    #: The one branch that is ever promoted.
    branch: str = Field(default="main", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*$", max_length=100)
    #: Repository that proposals are mirrored to; empty works offline.
    remote_url: Annotated[str, AfterValidator(_refuse_login_in_url)] = Field(
        default="",
        pattern=r"^(?:(?:https?|ssh|git|file)://\S+|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:\S+|/\S*)?$",
        max_length=500,
    )
    #: User name that goes with ``CONTROLLER_REMOTE_TOKEN``; GitHub takes any.
    remote_user: str = Field(default="x-access-token", pattern=r"^[A-Za-z0-9._@+-]{1,100}$")
    #: What ssh needs, with an SSH address; see :mod:`clawfactory_core.promotion.ssh`.
    remote_keys_dir: AbsolutePath = Path("/run/remote")
    #: ``owner/name``; empty accepts no webhook and opens no pull request.
    github_repository: str = Field(default="", pattern=r"^(?:[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100})?$")
    #: Logins whose merges are promoted, separated by commas; nobody's are when it is empty.
    github_actors: str = Field(default="", pattern=rf"^(?:{_LOGIN}(?:,{_LOGIN})*)?$")
    github_api_url: str = Field(
        default="https://api.github.com", pattern=r"^https?://[A-Za-z0-9.:-]+(?:/[A-Za-z0-9./_-]*)?$"
    )
    #: The controller's way out; empty goes directly, which only tests do.
    proxy_url: str = Field(default="", pattern=r"^(?:http://[A-Za-z0-9.-]+:[0-9]{1,5})?$")
    #: Seconds between looks at the remote's branch; 0 waits for webhooks.
    poll_seconds: int = Field(default=0, ge=0, le=86400)

    #: Largest pack of one push, MiB.
    push_max_mb: int = Field(default=16, ge=1, le=64)
    pushes_per_hour: int = Field(default=30, ge=1, le=1000)
    #: Seconds that one push or fetch may take.
    push_seconds: int = Field(default=60, ge=5, le=600)
    #: Open at once; beyond it no new one is accepted.
    proposals_max: int = Field(default=100, ge=1, le=1000)
    #: All proposals together, MiB; beyond it nothing more is accepted.
    proposals_max_mb: int = Field(default=256, ge=1, le=10240)
    #: Where a line of the configuration opens in an editor, with ``{path}`` and ``{line}``; empty has no links.
    editor_url: Annotated[str, AfterValidator(_require_editor_url)] = ""
    #: Path of that file on the machine, for such links.
    config_file: str = Field(default="/operator.json5", pattern=r"^/[A-Za-z0-9._/-]{1,400}$")
    #: Label of the deployed image, shown beside the version of the code; empty when the role gives none.
    version: str = Field(default="", pattern=r"^[A-Za-z0-9._:+-]{0,128}$")

    @property
    def origin(self) -> Path:
        """The repository that is the authority, or the host's copy of it."""
        return self.repositories_dir / "origin.git"

    @property
    def proposals(self) -> Path:
        """The repository that the bot pushes to."""
        return self.repositories_dir / "proposals.git"

    @property
    def actors(self) -> frozenset[str]:
        """GitHub logins on the allow-list, in lower case, because GitHub's are equal without regard to it."""
        return frozenset(login.lower() for login in self.github_actors.split(",") if login)

    @property
    def mirrors(self) -> bool:
        """Whether proposals are pushed to the remote."""
        return self.remote_url.startswith(("https://", "http://")) or is_ssh(self.remote_url)


def load_settings() -> Settings:
    """Read the settings of this process.

    ``CONTROLLER_SECRETS_FILE`` overrides where the secrets file is.

    :raises SettingsError: something is missing, malformed, weak, or given where it would be visible.
    """
    path = Path(os.environ.get("CONTROLLER_SECRETS_FILE") or DEFAULT_SECRETS_FILE)
    _refuse_secrets_in_environment(path)
    try:
        secrets = Secrets.model_validate(read_env_file(path))
    except ValidationError as error:
        raise SettingsError(f"refused settings in {path}: {_describe(error)}") from None
    given: dict[str, Any] = {"secrets": secrets}  # the rest comes from the environment
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(f"refused settings in the environment: {_describe_environment(error)}") from None


def read_env_file(path: Path) -> dict[str, str]:
    """Parse a file of ``KEY=value`` lines; values are taken literally, blank lines and ``#`` lines skipped.

    :raises SettingsError: the file cannot be read or a line has another form; names the line, not its text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text; run the 'secrets' role, which writes it") from None
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; run the 'secrets' role, which writes it") from None
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name):
            raise SettingsError(f"{path}, line {number}: expected KEY=value with a name like CONTROLLER_TOKEN")
        if name in values:
            raise SettingsError(f"{path}, line {number}: {name} is set a second time")
        values[name] = value
    return values


def _refuse_secrets_in_environment(path: Path) -> None:
    names = [str(field.alias) for field in Secrets.model_fields.values()]
    exposed = [name for name in names if name in os.environ]
    if exposed:
        raise SettingsError(
            f"{', '.join(exposed)} must not be in the environment, where 'docker inspect' shows it; put it in {path}"
        )


def _describe(error: ValidationError) -> str:
    """One clause per problem, without any input value: pydantic's own text would print secrets."""
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, item['loc']))} {_message(item)}".strip() for item in problems)


def _describe_environment(error: ValidationError) -> str:
    """One clause per problem, with the value: nothing in the environment is secret."""
    clauses = []
    for item in error.errors(include_context=False, include_url=False):
        value = "" if item["type"] == "missing" else f"={item['input']!r}"
        clauses.append(f"CONTROLLER_{'_'.join(map(str, item['loc'])).upper()}{value} {_message(item)}")
    return "; ".join(clauses)


def _message(item: ErrorDetails) -> str:
    return "is missing" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
