"""Stands in for what a machine does with a bot's configuration: keeps it, refuses what is outdated, puts back."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from clawfactory_core.jobs.protocol import Refusal
from clawfactory_core.json5 import Json5Error, parse
from tests.support.jobs_server import Answer, JobsServer

TEXT = """{
  // How much it tells.
  logging: {level: "info"},

  agents: {
    defaults: {
      thinkingDefault: "low", // cheap
    },
  },
}
"""
MANAGED = {
    "$include": "./operator.json5",
    "gateway": {"bind": "lan", "auth": {"token": {"source": "env", "id": "OPENCLAW_GATEWAY_TOKEN"}}},
    "models": {
        "providers": {"ollama": {"api": "ollama", "baseUrl": "http://host.docker.internal:11434", "models": []}}
    },
}
_LEVELS = ["silent", "error", "warn", "info", "debug", "trace"]
_MODEL = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "contextWindow": {"type": "number", "exclusiveMinimum": 0},
        "reasoning": {"type": "boolean", "default": False},
        "contextTokens": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
    },
    "required": ["id", "name", "reasoning"],
    "additionalProperties": False,
}
_PROVIDER = {
    "type": "object",
    "properties": {
        "baseUrl": {"type": "string"},
        "api": {"type": "string"},
        "models": {"type": "array", "items": _MODEL},
    },
    "required": ["baseUrl", "models"],
    "additionalProperties": False,
}
#: In the form of OpenClaw's own, a few settings of its two thousand.
SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "logging": {
            "type": "object",
            "properties": {
                "level": {
                    "anyOf": [{"type": "string", "const": level} for level in _LEVELS],
                    "title": "Log Level",
                    "description": "Primary log level threshold for runtime logger output.",
                },
                "file": {"type": "string", "title": "Log File Path"},
                "maxFileBytes": {"type": "integer", "exclusiveMinimum": 0},
            },
            "additionalProperties": False,
            "title": "Logging",
        },
        "agents": {
            "type": "object",
            "properties": {
                "defaults": {
                    "type": "object",
                    "properties": {
                        "thinkingDefault": {"type": "string", "enum": ["off", "low", "medium", "high"]},
                        "verbose": {"type": "boolean", "title": "Verbose"},
                    },
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
        "models": {
            "type": "object",
            "properties": {"providers": {"type": "object", "additionalProperties": _PROVIDER}},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
    "title": "OpenClawConfig",
}
HINTS = {"logging.file": {"label": "Log file", "help": "Where the log goes."}}


class ConfigMachine:
    """Answers every question about the configuration; ``ready`` says whether the gateway gets ready with a text."""

    def __init__(self, jobs: JobsServer) -> None:
        self.text = TEXT
        self.known_good: str | None = None
        self.ready = True
        #: What the bot's OpenClaw says against a text beside that it is no JSON5.
        self.problems: list[dict[str, Any]] = []
        self.ollama: Answer = {
            "ollama": {"available": 12 << 30, "total": 16 << 30, "reserve": 1717986918, "providers": []}
        }
        self._jobs = jobs
        jobs.answers["config_info"] = lambda fields: {"config": self._describe()}
        jobs.answers["config_check"] = lambda fields: {
            "check": {"problems": self._check(fields.get("text", self.text))}
        }
        jobs.answers["ollama_info"] = lambda fields: self.ollama
        jobs.answers["config"] = lambda fields: self._save("config", fields, fields["text"])
        jobs.answers["config_revert"] = lambda fields: self._save("config_revert", fields, self.known_good or "")

    def _describe(self) -> dict[str, Any]:
        known = None if self.known_good is None else {"text": self.known_good, "digest": digest(self.known_good)}
        managed = json.dumps(MANAGED, indent=2)
        return {"text": self.text, "digest": digest(self.text), "managed": managed, "known_good": known}

    def _check(self, text: str) -> list[dict[str, Any]]:
        try:
            parse(text)
        except Json5Error as error:
            return [{"path": "", "message": error.message, "line": error.line, "column": error.column}]
        return self.problems

    def _save(self, kind: str, fields: dict[str, str], text: str) -> Answer:
        if fields["base"] != digest(self.text):
            return Refusal(412, "Changed meanwhile", "the configuration is another one now")
        if not self.ready:
            error = {
                "status": 422,
                "title": "Put back",
                "detail": "the gateway did not get ready with it and has the configuration of before",
            }
            return {"job": self._jobs.add_job(kind, actor="operator", state="failed", error=error)}
        self.known_good, self.text = self.text, text
        return {"job": self._jobs.add_job(kind, actor="operator")}


def digest(text: str) -> str:
    """As the machine names a text."""
    return hashlib.sha256(text.encode()).hexdigest()
