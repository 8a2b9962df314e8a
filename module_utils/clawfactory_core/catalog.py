"""The table of model providers and chat channels a bot can use.

Everything that differs between them is here and nowhere else: names of the keys, hosts for the egress allow-list, the
default model, and how OpenClaw is told about it. Hosts are exact names, or begin with a dot to take in all subdomains.
Model references exist in the catalogs of the OpenClaw release that ``roles/gateway`` pins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Key:
    """A secret that a provider or channel needs, handed to the gateway as an environment variable.

    :param env: name of the environment variable, which is also the key in ``secrets_env``.
    :param field: key of the OpenClaw configuration that refers to it.
    :param title: what the secret is, for messages and documentation.
    :param required: whether the bot refuses to start without it.
    """

    env: str
    field: str
    title: str
    required: bool = True


@dataclass(frozen=True)
class Provider:
    """A model provider.

    :param default_model: model id without the provider, empty if only the operator can know it.
    :param key_url: where the operator gets the key.
    :param api: OpenClaw's request adapter for a provider that we declare ourselves under ``models.providers``;
        empty for one that OpenClaw carries and that needs no declaration.
    :param models: declared models in OpenClaw's own form (only together with ``api``).
    :param keyless: value OpenClaw takes in place of a key for an endpoint without authentication; not a secret.
    :param repeatable: may occur several times in a bot, each with its own ``id``.
    :param embeddings: id of its adapter for OpenClaw's ``memory.search.provider``; empty for one that has none.
    :param unwanted_plugins: plugins that OpenClaw would fetch from npm at start because it sees the id or the key.
    """

    name: str
    title: str
    key: Key
    hosts: tuple[str, ...]
    default_model: str
    key_url: str
    aliases: tuple[str, ...] = ()
    api: str = ""
    base_url: str = ""
    models: tuple[Mapping[str, object], ...] = ()
    keyless: str = ""
    repeatable: bool = False
    embeddings: str = ""
    unwanted_plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Channel:
    """A chat channel.

    :param plugin_path: directory of the plugin inside the gateway image, empty for a channel that OpenClaw carries.
        OpenClaw trusts it with durable state only if its registry holds the npm install it came from.
    :param proxied: has a ``proxy`` setting of its own, because its connection does not follow the gateway's proxy.
    :param settings: settings that are always the same, in OpenClaw's own form.
    """

    name: str
    title: str
    keys: tuple[Key, ...]
    hosts: tuple[str, ...]
    key_url: str
    plugin_path: str = ""
    proxied: bool = False
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def _kimi(model: str, name: str, window: int, **more: object) -> Mapping[str, object]:
    """Describe a Kimi model: without Moonshot's plugin OpenClaw knows only what the configuration says."""
    images = ["text", "image"]
    # Moonshot's API knows the role `system` only, and its K2 models refuse an effort setting.
    compat: dict[str, object] = {"supportsDeveloperRole": False, "supportsReasoningEffort": "thinkingLevelMap" in more}
    limits = {"contextWindow": window, "maxTokens": window}
    return MappingProxyType(
        {"id": model, "name": name, "reasoning": True, "input": images, "compat": compat, **limits, **more}
    )


_KIMI_K3_LEVELS = {
    "off": None, "minimal": None, "low": "low", "medium": None, "high": "high", "xhigh": "max", "max": "max",
}  # fmt: skip

_EXTERNAL_PLUGINS: dict[str, tuple[str, ...]] = {
    "amazon-bedrock": (), "amazon-bedrock-mantle": (), "anthropic-vertex": (), "arcee": (), "baseten": (),
    "byteplus": ("byteplus-plan",), "cerebras": (), "chutes": (), "cloudflare-ai-gateway": (), "cohere": (),
    "comfy": (), "deepinfra": (), "deepseek": (), "featherless": (), "fireworks": ("fireworks-ai",),
    "gmi": ("gmi-cloud", "gmicloud"),
    "groq": (), "kilocode": (), "kimi": ("kimi-coding",), "longcat": ("meituan-longcat",), "meta": (), "mistral": (),
    "moonshot": ("moonshotai", "moonshot-ai"), "novita": ("novita-ai", "novitaai"), "opencode": (), "opencode-go": (),
    "pixverse": (), "qianfan": (),
    "qwen": ("qwencloud", "modelstudio", "dashscope", "qwen-token-plan", "bailian-token-plan"), "radius": (),
    "stepfun": ("stepfun-plan",), "synthetic": (), "tencent": ("tencent-tokenhub", "tencent-tokenplan"), "venice": (),
    "vercel-ai-gateway": (), "volcengine": ("volcengine-plan",), "voyage": (), "vydra": (),
    "xiaomi": ("xiaomi-token-plan",), "zai": ("z-ai", "z.ai"),
}  # fmt: skip

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="anthropic",
        title="Anthropic (Claude)",
        key=Key("ANTHROPIC_API_KEY", "apiKey", "API key"),
        hosts=("api.anthropic.com",),
        default_model="claude-opus-5",
        key_url="https://console.anthropic.com/settings/keys",
        aliases=("claude",),
    ),
    Provider(
        name="moonshot",
        title="Moonshot AI (Kimi K2, Kimi K3)",
        key=Key("MOONSHOT_API_KEY", "apiKey", "API key"),
        hosts=("api.moonshot.ai",),
        default_model="kimi-k2.7-code",
        key_url="https://platform.moonshot.ai/console/api-keys",
        aliases=("kimi",),
        # OpenClaw's own Moonshot plugin is not published as an npm package, so the endpoint is declared.
        api="openai-completions",
        base_url="https://api.moonshot.ai/v1",
        models=(
            _kimi("kimi-k2.7-code", "Kimi K2.7 Code", 262144),
            _kimi("kimi-k2.7-code-highspeed", "Kimi K2.7 Code HighSpeed", 262144),
            _kimi("kimi-k3", "Kimi K3", 1048576, thinkingLevelMap=_KIMI_K3_LEVELS),
        ),
        unwanted_plugins=("moonshot",),
    ),
    Provider(
        name="openai",
        title="OpenAI",
        key=Key("OPENAI_API_KEY", "apiKey", "API key"),
        hosts=("api.openai.com",),
        default_model="gpt-6-astra",
        key_url="https://platform.openai.com/api-keys",
        embeddings="openai",
    ),
    Provider(
        name="google",
        title="Google (Gemini)",
        key=Key("GEMINI_API_KEY", "apiKey", "API key"),
        hosts=("generativelanguage.googleapis.com",),
        default_model="gemini-3.1-pro-preview",
        key_url="https://aistudio.google.com/apikey",
        aliases=("gemini",),
        embeddings="gemini",
    ),
    Provider(
        name="ollama",
        title="Ollama (models on this machine or in your network)",
        key=Key("OLLAMA_API_KEY", "apiKey", "API key of ollama.com", required=False),
        hosts=(),
        default_model="gemma4",
        key_url="https://ollama.com/settings/keys",
        api="ollama",
        base_url="http://host.docker.internal:11434",
        keyless="ollama-local",
        embeddings="ollama",
    ),
    Provider(
        name="openrouter",
        title="OpenRouter",
        key=Key("OPENROUTER_API_KEY", "apiKey", "API key"),
        hosts=("openrouter.ai",),
        default_model="auto",
        key_url="https://openrouter.ai/settings/keys",
        # It offers web search over OpenRouter, with the same key.
        unwanted_plugins=("perplexity",),
    ),
    Provider(
        name="openai-compatible",
        title="Any OpenAI-compatible endpoint",
        key=Key("", "apiKey", "API key of the endpoint, named by `api_key_env`", required=False),
        hosts=(),
        default_model="",
        key_url="",
        api="openai-completions",
        keyless="custom-local",
        repeatable=True,
    ),
)

CHANNELS: tuple[Channel, ...] = (
    Channel(
        name="discord",
        title="Discord",
        keys=(Key("DISCORD_BOT_TOKEN", "token", "bot token"),),
        hosts=(
            "discord.com",
            # The event stream moves to a regional host of this domain when it resumes.
            ".discord.gg",
            "cdn.discordapp.com",
            "media.discordapp.net",
            # Discord hands out upload addresses on this host for voice messages.
            "discord-attachments-uploads-prd.storage.googleapis.com",
        ),
        key_url="https://discord.com/developers/applications",
        plugin_path="/opt/openclaw/node_modules/@openclaw/discord",
        proxied=True,
    ),
    Channel(
        name="telegram",
        title="Telegram",
        keys=(Key("TELEGRAM_BOT_TOKEN", "botToken", "bot token"),),
        hosts=("api.telegram.org",),
        key_url="https://t.me/BotFather",
        proxied=True,
    ),
    Channel(
        name="slack",
        title="Slack",
        keys=(
            Key("SLACK_BOT_TOKEN", "botToken", "bot token (xoxb-…)"),
            Key("SLACK_APP_TOKEN", "appToken", "app-level token (xapp-…) for Socket Mode"),
        ),
        # API, Socket Mode (wss-primary, wss-backup), response hooks, files and avatars.
        hosts=(".slack.com", ".slack-edge.com", ".slack-files.com"),
        key_url="https://api.slack.com/apps",
        plugin_path="/opt/openclaw/node_modules/@openclaw/slack",
        # Socket Mode calls out; the other modes need an address that Slack can reach.
        settings=MappingProxyType({"mode": "socket"}),
    ),
)

#: Providers for which OpenClaw has a plugin on npm, by provider id: an endpoint under such an id makes it fetch the
#: plugin at start (scripts/lib/official-external-provider-catalog.json of the npm package openclaw 2026.9.6).
PLUGIN_OF_PROVIDER: Mapping[str, str] = MappingProxyType(
    {provider: plugin for plugin, providers in _EXTERNAL_PLUGINS.items() for provider in (plugin, *providers)}
)

PROVIDERS_BY_NAME: Mapping[str, Provider] = MappingProxyType(
    {name: row for row in PROVIDERS for name in (row.name, *row.aliases)}
)
CHANNELS_BY_NAME: Mapping[str, Channel] = MappingProxyType({row.name: row for row in CHANNELS})
