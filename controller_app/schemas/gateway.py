"""Documents about the gateway's container and its log, and OpenClaw's own audit of its configuration."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from .devices import Label, Time


class Restarted(BaseModel):
    """Answer of ``POST /gateway/restart``."""

    model_config = ConfigDict(json_schema_extra={"example": {"state": "starting"}})

    #: ``/status`` tells when it is ready.
    state: Literal["starting"]


class GatewayLog(BaseModel):
    """Answer of ``GET /gateway/logs``. What a line says is the part's own words."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"part": "gateway", "lines": ["2027-01-15T08:00:00.000000000Z [gateway] ready"]}}
    )

    part: str
    #: The newest last, each with its time in front.
    lines: list[str]


def _several_lines(value: object) -> object:
    if not isinstance(value, str):
        return value
    kept = "".join(character if character.isprintable() or character == "\n" else " " for character in value[:8000])
    return kept[:4000]


Paragraph = Annotated[str, BeforeValidator(_several_lines), StringConstraints(max_length=4000)]


class Finding(BaseModel):
    """Something that OpenClaw advises about."""

    model_config = ConfigDict(extra="ignore")

    check: Label = Field(validation_alias=AliasChoices("checkId", "check"))
    severity: Literal["critical", "warn", "info"]
    title: Label
    detail: Paragraph = ""
    remediation: Paragraph = ""


class AuditReport(BaseModel):
    """What the audit found."""

    model_config = ConfigDict(extra="ignore")

    time: Time = Field(validation_alias=AliasChoices("ts", "time"))
    findings: Annotated[list[Finding], Field(max_length=1000)]


class SecurityAudit(BaseModel):
    """Answer of ``GET /gateway/security-audit``."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "state": "done",
                "started": "2027-01-15T08:00:00Z",
                "report": {
                    "time": "2027-01-15T08:00:21Z",
                    "findings": [
                        {
                            "check": "gateway.auth_no_rate_limit",
                            "severity": "warn",
                            "title": "No auth rate limiting configured",
                            "detail": "gateway.bind is not loopback but no gateway.auth.rateLimit is configured.",
                            "remediation": "Set gateway.auth.rateLimit.",
                        }
                    ],
                },
                "problem": None,
            }
        }
    )

    #: ``running``: ask again in some seconds; ``report`` is the one before, if there is one.
    state: Literal["running", "done", "failed"]
    started: datetime
    report: AuditReport | None
    #: Why the last one failed.
    problem: str | None
