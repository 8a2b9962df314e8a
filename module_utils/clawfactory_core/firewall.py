"""The nftables table that keeps bots from the host, from each other and from the outside.

An ``--internal`` Docker network still reaches the host through the bridge's own address, and Docker's isolation is a
set of rules that anybody may flush; a drop in a table of our own is final whatever other tables accept. Established
flows pass: the host itself opens connections to the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TABLE = "clawfactory"


def render_table(bots: Iterable[Mapping[str, Any]]) -> str:
    """The whole table in nft syntax; loading it replaces the old one in one transaction.

    :param bots: ``{"bridges": {kind: interface}, "host_ports": [int]}`` of every bot of the machine.
    """
    bots = list(bots)
    bridges = sorted(bridge for bot in bots for bridge in bot["bridges"].values())
    same = ", ".join(f'"{bridge}" . "{bridge}"' for bridge in bridges)
    services = ", ".join(f'"{bot["bridges"]["edge"]}" . {port}' for bot in bots for port in sorted(bot["host_ports"]))
    return f"""#!/usr/sbin/nft -f
# Made by ClawFactory from allocations.json; changes are overwritten.
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    set same_bridge {{
        type ifname . ifname
{_elements(same)}    }}
    # What a bot's egress may use on this machine itself, for example Ollama.
    set host_services {{
        type ifname . inet_service
{_elements(services)}    }}
    chain input {{
        type filter hook input priority filter - 10; policy accept;
        iifname "cfi-*" jump to_host
        iifname "cfc-*" jump to_host
        iifname "cfs-*" jump to_host
        iifname "cfe-*" jump edge_to_host
    }}
    chain edge_to_host {{
        # The machine may be its own name server.
        meta l4proto {{ tcp, udp }} th dport 53 accept
        iifname . tcp dport @host_services accept
        jump to_host
    }}
    chain to_host {{
        ct state established,related accept
        counter drop
    }}
    chain forward {{
        type filter hook forward priority filter - 10; policy accept;
        iifname "cfi-*" jump within
        iifname "cfc-*" jump within
        iifname "cfs-*" jump within
        oifname "cfi-*" jump within
        oifname "cfc-*" jump within
        oifname "cfs-*" jump within
        oifname "cfe-*" jump into_edge
    }}
    chain within {{
        iifname . oifname @same_bridge accept
        counter drop
    }}
    chain into_edge {{
        ct state established,related accept
        iifname . oifname @same_bridge accept
        counter drop
    }}
}}
"""


def _elements(elements: str) -> str:
    return f"        elements = {{ {elements} }}\n" if elements else ""
