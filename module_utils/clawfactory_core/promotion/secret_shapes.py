"""Shapes of keys and tokens, each with the place that describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GITLEAKS = "https://github.com/gitleaks/gitleaks/blob/v8.28.0/config/gitleaks.toml"
_WORD = frozenset(bytes([byte]) for byte in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@dataclass(frozen=True)
class Shape:
    """How one kind of secret looks.

    :param kind: what it is called in a message.
    :param marks: texts of which one is in every such secret; finding them is much faster than the expression.
    :param expression: matches the secret.
    :param source: where the shape is described.
    :param is_word: not to be found within a longer word: chance makes such texts in Base64.
    """

    kind: str
    marks: tuple[bytes, ...]
    expression: re.Pattern[bytes]
    source: str
    is_word: bool = True

    def find(self, data: bytes) -> int:
        """Where the first such secret begins in ``data``, -1 if there is none."""
        if not any(mark in data for mark in self.marks):
            return -1
        match = self.expression.search(data)
        # Looked at here, because an expression that begins with a text is found faster than one that looks behind.
        while match and self.is_word and data[match.start() - 1 : match.start()] in _WORD:
            match = self.expression.search(data, match.start() + 1)
        return match.start() if match else -1


def _shape(kind: str, marks: tuple[bytes, ...], expression: bytes, source: str) -> Shape:
    return Shape(kind, marks, re.compile(rb"%b(?![A-Za-z0-9_])" % expression), source)


SHAPES = (
    _shape(
        "an age private key",
        (b"AGE-SECRET-KEY-",),
        rb"AGE-SECRET-KEY-(?:PQ-)?1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58,80}",
        "https://github.com/C2SP/C2SP/blob/main/age.md",
    ),
    # The line alone stands in instructions. A key follows it, after headers as in PEM and OpenPGP, or escaped in JSON.
    # A header goes on to the end of its line: were a blank enough to end it, a text could be read as headers in so many
    # ways that trying them takes for ever.
    Shape(
        "a private key (PEM, OpenSSH or OpenPGP)",
        (b"PRIVATE KEY",),
        re.compile(
            rb"-----BEGIN[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            rb"(?:\\[nr]|[\s>#*|\"'+,]){1,200}"
            rb"(?:[A-Za-z-]{1,40}: [^\r\n\\]{0,200}(?:\\[nr]|[\r\n])(?:\\[nr]|[\s>#*|\"'+,]){0,199}){0,8}"
            rb"[A-Za-z0-9+/]{32}"
        ),
        "https://www.rfc-editor.org/rfc/rfc7468, https://www.rfc-editor.org/rfc/rfc9580",
        is_word=False,
    ),
    _shape(
        "a PuTTY private key",
        (b"PuTTY-User-Key-File-",),
        rb"PuTTY-User-Key-File-[1-9]: [a-z0-9-]{1,40}\s{1,4}Encryption:",
        "https://the.earth.li/~sgtatham/putty/latest/htmldoc/AppendixC.html",
    ),
    _shape(
        "an Anthropic key",
        (b"sk-ant-",),
        rb"sk-ant-[a-z]{3,8}\d{2}-[A-Za-z0-9_-]{80,120}",
        f"{_GITLEAKS} (anthropic-api-key, anthropic-admin-api-key)",
    ),
    _shape(
        "an OpenAI key",
        (b"T3BlbkFJ", b"sk-proj-", b"sk-svcacct-", b"sk-admin-"),
        rb"sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,200}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        f"{_GITLEAKS} (openai-api-key)",
    ),
    _shape("an OpenRouter key", (b"sk-or-v1-",), rb"sk-or-v1-[0-9a-f]{64}", "https://openrouter.ai/docs/api-keys"),
    _shape(
        "a key of Moonshot, DeepSeek or alike",
        (b"sk-",),
        rb"sk-[A-Za-z0-9]{32,64}",
        "https://platform.moonshot.ai/docs, https://api-docs.deepseek.com",
    ),
    _shape("a Google API key", (b"AIza",), rb"AIza[A-Za-z0-9_-]{35}", f"{_GITLEAKS} (gcp-api-key)"),
    _shape(
        "a GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        rb"g(?:h[pousr]_[A-Za-z0-9]{36,251}|ithub_pat_[A-Za-z0-9_]{82})",
        "https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github"
        f"#githubs-token-formats, {_GITLEAKS} (github-pat, github-fine-grained-pat)",
    ),
    _shape("a GitLab token", (b"glpat-",), rb"glpat-[A-Za-z0-9_-]{20,64}", f"{_GITLEAKS} (gitlab-pat)"),
    _shape(
        "a Slack token",
        (b"xox", b"xapp-"),
        rb"x(?:ox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{20,250}|app-\d-[A-Z0-9]{8,20}-\d{8,20}-[a-f0-9]{32,80})",
        f"{_GITLEAKS} (slack-bot-token, slack-app-token, slack-user-token)",
    ),
    _shape(
        "a Discord token",
        (b".",),
        rb"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}",
        "https://github.com/Yelp/detect-secrets/blob/v1.5.0/detect_secrets/plugins/discord.py",
    ),
    _shape(
        "a Telegram token",
        (b":AA",),
        rb"\d{5,16}:AA[A-Za-z0-9_-]{33}",
        f"https://core.telegram.org/bots/api#authorizing-your-bot, {_GITLEAKS} (telegram-bot-api-token)",
    ),
    # Amazon's own example ends with EXAMPLE.
    _shape(
        "an AWS key",
        (b"AKIA", b"ASIA", b"ABIA", b"ACCA"),
        rb"A(?:KIA|SIA|BIA|CCA)(?![A-Z2-7]{9}EXAMPLE)[A-Z2-7]{16}",
        f"https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html, {_GITLEAKS} (aws-access-token)",
    ),
    _shape("a Hugging Face token", (b"hf_",), rb"hf_[A-Za-z]{34}", f"{_GITLEAKS} (huggingface-access-token)"),
    _shape("an npm token", (b"npm_",), rb"npm_[A-Za-z0-9]{36}", f"{_GITLEAKS} (npm-access-token)"),
)
