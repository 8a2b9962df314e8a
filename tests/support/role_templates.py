"""Configuration files as the roles egress and proxy render them, without a playbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"
NETWORKS = {
    name: {"name": f"clawfactory-bot1-{name}", "subnet": f"10.213.0.{start}/28"}
    for name, start in {"inside": 0, "edge": 16, "control": 32}.items()
}
ADDRESSES = {
    "egress_inside": "10.213.0.2", "gateway_inside": "10.213.0.3", "proxy_inside": "10.213.0.4",
    "edge_gateway": "10.213.0.17", "egress_edge": "10.213.0.18", "proxy_edge": "10.213.0.20",
    "egress_control": "10.213.0.34", "controller_control": "10.213.0.37", "egress_sandbox": "10.213.0.66",
}  # fmt: skip
SANDBOX = {"name": "clawfactory-bot1-sandbox", "subnet": "10.213.0.64/26"}
BOT = {
    "name": "bot1", "gateway_port": 18789, "controller_port": 8080, "networks": NETWORKS, "addresses": ADDRESSES,
    "sandbox_network": SANDBOX,
}  # fmt: skip


def templar(role: str, variables: dict[str, Any]) -> Templar:
    """What expands a role's variables, for ``bot1`` on a machine of nobody's."""
    loader = DataLoader()
    files = [ROLES / role / kind / "main.yml" for kind in ("defaults", "vars")]
    loaded: dict[str, Any] = {}
    for file in files:
        loaded |= loader.load_from_file(str(file), cache="none", trusted_as_template=True)
    given = {"host_bot": BOT, "inventory_hostname": "bot1", "remote_access_plan": {"kind": "none"}}
    return Templar(loader, variables=loaded | given | variables)


def squid(**variables: Any) -> list[str]:
    """Lines of ``squid.conf``."""
    return _render("egress", "squid.conf.j2", variables).splitlines()


def nginx(**variables: Any) -> str:
    """``nginx.conf`` of the bot's proxy."""
    return _render("proxy", "nginx.conf.j2", variables)


def _render(role: str, name: str, variables: dict[str, Any]) -> str:
    text = (ROLES / role / "templates" / name).read_text()
    return templar(role, variables).copy_with_new_env().template(trust_as_template(text), escape_backslashes=False)


def problems(role: str, **variables: Any) -> list[str]:
    """What a role's preflight refuses."""
    return templar(role, variables).template(trust_as_template(f"{{{{ __{role}_problems }}}}"))


def listed(lines: list[str], acl: str) -> list[str]:
    return [line.split()[-1] for line in lines if line.startswith(f"acl {acl} ")]
