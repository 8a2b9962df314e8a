"""Documents about OpenClaw's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: Of a configuration. How many bytes it may have is looked at apart, because here it is counted in characters.
Text = Annotated[str, StringConstraints(max_length=131072, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
_TEXT = "{\n  // Yours.\n  logging: {level: 'debug'},\n}\n"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class KnownGood(BaseModel):
    """Answer of ``GET /gateway/config/known-good``: the operator's layer from before the last change."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"example": {"text": _TEXT, "digest": _DIGEST}})

    text: str
    digest: Digest


class Config(BaseModel):
    """Answer of ``GET /gateway/config``."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "text": _TEXT,
                "digest": _DIGEST,
                "managed": '{"$include": "./operator.json5"}',
                "known_good": _DIGEST,
            }
        },
    )

    #: The operator's own layer, in JSON5, as it was written.
    text: str
    #: Of the text; the same is in the header ``ETag``, and belongs into ``If-Match`` of a change.
    digest: Digest
    #: What ClawFactory manages, which wins. It has references to secrets, no values.
    managed: str
    #: Digest of the layer from before the last change, if there was one.
    known_good: Digest | None


class ConfigText(BaseModel):
    """Body of ``POST /gateway/config`` and ``…/validate``."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"text": _TEXT}})

    #: In JSON5, at most 65,536 bytes; comments are kept.
    text: Annotated[
        str,
        StringConstraints(max_length=65536, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"),
        Field(examples=[_TEXT]),
    ]


class ConfigProblem(BaseModel):
    """Why a text is refused."""

    #: Of the setting, with dots; empty for the text as a whole.
    path: str
    message: str
    #: In the text, from 1; 0 when the place is not in it.
    line: int
    column: int


class ConfigCheck(BaseModel):
    """Answer of ``…/validate``."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "valid": False,
                "problems": [{"path": "logging.level", "message": "Invalid input", "line": 3, "column": 3}],
            }
        }
    )

    valid: bool
    problems: list[ConfigProblem]


class OllamaModel(BaseModel):
    """A model that an Ollama has."""

    name: str
    #: Bytes of its file.
    size: int
    #: Tokens that it was trained for, 0 if it does not say.
    context: int
    #: Tokens of context that the free memory has room for, 0 if none or not known.
    tokens: int
    #: Why `tokens` is 0.
    problem: str


class OllamaProvider(BaseModel):
    """A provider of the configuration that is an Ollama."""

    id: str
    url: str
    #: Why it has no models here, empty if it was asked.
    problem: str
    models: list[OllamaModel]


class OllamaModels(BaseModel):
    """Answer of ``GET /gateway/config/ollama``; memory in bytes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "available": 12884901888,
                "total": 17179869184,
                "reserve": 1717986918,
                "providers": [
                    {
                        "id": "ollama",
                        "url": "http://host.docker.internal:11434",
                        "problem": "",
                        "models": [
                            {
                                "name": "llama3.1:8b",
                                "size": 4920753328,
                                "context": 131072,
                                "tokens": 9216,
                                "problem": "",
                            }
                        ],
                    }
                ],
            }
        }
    )

    available: int
    total: int
    #: What no model gets.
    reserve: int
    #: Empty if the configuration has none.
    providers: list[OllamaProvider]


class NewModel(ConfigText):
    """Body of ``POST /gateway/config/ollama``: a text, and the model that is to be in it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"text": _TEXT, "provider": "ollama", "model": "gemma4", "context": 131072, "tokens": 30720}
        },
    )

    provider: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"), Field(examples=["ollama"])
    ]
    model: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$"), Field(examples=["gemma4"])]
    #: What it was trained for; 0 leaves that to OpenClaw.
    context: Annotated[int, Field(ge=0, le=1 << 30, examples=[131072])] = 0
    #: What it is to use at most; 0 leaves that to OpenClaw.
    tokens: Annotated[int, Field(ge=0, le=1 << 30, examples=[9216])] = 0


class ChangedText(BaseModel):
    """Answer of ``…/format`` and ``POST /gateway/config/ollama``; nothing is saved."""

    model_config = ConfigDict(json_schema_extra={"example": {"text": _TEXT}})

    text: str
