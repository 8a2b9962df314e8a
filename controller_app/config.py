"""Settings of the controller: secrets from a mounted file, everything else from the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from clawfactory_core.errors import InvalidInput
from clawfactory_core.tokens import token_problem

DEFAULT_SECRETS_FILE = Path("/run/secrets/controller.env")
DEFAULT_SOCKET = Path("/run/operator/controller.sock")

_ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_AGE_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")


class SettingsError(InvalidInput):
    """The controller must not start with these settings. The text never contains the value of a secret."""


def _refuse_weak_token(secret: SecretStr) -> SecretStr:
    problem = token_problem(secret.get_secret_value())
    if problem:
        raise ValueError(problem)
    return secret


def _require_age_recipient(value: str) -> str:
    if not _AGE_RECIPIENT.fullmatch(value):
        raise ValueError("must be an age X25519 recipient (age1 and 58 more characters)")
    return value


def _require_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_require_absolute)]
Token = Annotated[SecretStr, AfterValidator(_refuse_weak_token)]


class Secrets(BaseModel):
    """What the mounted secrets file must hold; further names in it are left alone."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    token: Token = Field(alias="CONTROLLER_TOKEN")
    agent_token: Token = Field(alias="CONTROLLER_AGENT_TOKEN")
    webhook_secret: Token = Field(alias="CONTROLLER_WEBHOOK_SECRET")
    age_recipient: Annotated[str, AfterValidator(_require_age_recipient)] = Field(alias="CONTROLLER_AGE_RECIPIENT")

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
    #: Label of the deployed image, shown beside the version of the code; empty when the role gives none.
    version: str = Field(default="", pattern=r"^[A-Za-z0-9._:+-]{0,128}$")


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
