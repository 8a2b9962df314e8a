"""Documents about OpenClaw's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
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
