"""What the roles egress and proxy make of an operator's variables: the configuration files and the refusals."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader

from tests.support.role_templates import listed, nginx, problems, squid


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    init_plugin_loader()


class TestSquid:
    def test_hosts_covered_by_a_wider_one_are_left_out(self):
        """Squid refuses to start with a list that holds both."""
        hosts = [
            ".example.com",
            "api.example.com",
            "Example.com",
            ".sub.example.com",
            "notexample.com",
            "a.test",
            "A.test.",
        ]
        assert listed(squid(egress_hosts=hosts), "bot_hosts") == [".example.com", "a.test", "notexample.com"]

    def test_empty_list_matches_nothing(self):
        assert listed(squid(), "bot_hosts") == ["nothing.invalid"]

    def test_controllers_hosts_are_not_the_bots(self):
        lines = squid(egress_hosts=["api.test"], egress_allow_control=["git.test"])
        assert (listed(lines, "bot_hosts"), listed(lines, "control_hosts")) == (["api.test"], ["git.test"])

    def test_sandboxes_are_not_known_where_they_have_no_network(self):
        assert [line for line in squid(egress_sandbox_allow=["pypi.test"]) if "sandbox" in line.lower()] == []

    def test_sandboxes_have_a_port_and_a_list_of_their_own(self):
        lines = squid(
            egress_hosts=["api.test"],
            egress_mode="open",
            egress_sandbox_allow=["pypi.test"],
            broker_sandbox_network="egress",
        )
        assert "http_port 10.213.0.66:3128 name=sandbox" in lines
        assert (listed(lines, "bot_hosts"), listed(lines, "sandbox_hosts")) == (["api.test"], ["pypi.test"])
        assert "acl own_network dst 10.213.0.64/26" in lines
        rules = [line for line in lines if line.startswith("http_access")]
        assert "http_access deny !from_gateway !from_controller !from_sandbox" in rules
        assert rules.index("http_access deny from_sandbox !sandbox_wants") < rules.index(
            "http_access allow from_sandbox"
        )

    def test_none_refuses_the_sandboxes_too(self):
        lines = squid(egress_mode="none", egress_sandbox_allow=["pypi.test"], broker_sandbox_network="egress")
        assert "http_access deny from_sandbox" in lines

    def test_name_conditions_never_look_anything_up(self):
        named = [line for line in squid(egress_hosts=["api.test"]) if re.search(r" dstdom(ain|_regex) ", line)]
        assert named
        assert [line for line in named if " -n " not in line] == []

    def test_only_a_private_endpoint_may_be_private(self):
        endpoints = [
            {"host": "lan.test", "port": 8000, "private": True},
            {"host": "far.test", "port": 8001, "private": False},
        ]
        lines = squid(egress_endpoints=endpoints)
        assert listed(lines, "bot_service") == ["bot_service_1", "bot_service_2", "nothing"]
        assert listed(lines, "bot_service_private") == ["bot_service_1", "nothing"]

    def test_none_refuses_the_gateway_before_anything_allows_it(self):
        rules = [
            line for line in squid(egress_mode="none", egress_hosts=["api.test"]) if line.startswith("http_access")
        ]
        assert rules.index("http_access deny from_gateway") < rules.index("http_access allow from_gateway")

    def test_everything_that_allows_comes_after_every_refusal_but_the_last(self):
        rules = [line.split()[1] for line in squid() if line.startswith("http_access")]
        assert rules[rules.index("allow") :] == ["allow", "allow", "deny"]

    def test_each_refusal_of_an_address_is_asked_again_where_it_is_used(self):
        lines = squid()
        checked = {
            line.split(None, 2)[2] for line in lines if re.match(r"http_access deny (!resolved|\w+_address|own)", line)
        }
        asked_again = {line.split(None, 2)[2] for line in lines if line.startswith("tcp_outgoing_address")}
        assert asked_again == {
            rule.replace("!private_ok", "!bot_service_private !control_service_private") for rule in checked
        }

    def test_it_listens_for_its_clients_alone(self):
        ports = [line.split()[1] for line in squid() if line.startswith("http_port")]
        assert ports == ["10.213.0.2:3128", "10.213.0.34:3128"]


@pytest.mark.parametrize(
    "value",
    [
        "https://x.test", "*.x.test", ".test", "x.test/", "x.test:443", "1.2.3.4", "::1", "x..test", "x y", "",
        "x\ncache allow all", "x.test\n",
    ],
)  # fmt: skip
def test_what_is_no_host_name_is_refused(value: str):
    (problem,) = set(problems("egress", egress_allow_extra=["ok.test", value]))
    assert problem.startswith("egress_allow_extra/egress_allow_control/egress_sandbox_allow:")
    assert f"'{value}'" in problem


@pytest.mark.parametrize("host", [".x.test", "http://x.test", "::1", "300.1.1.1", "x y"])
def test_endpoint_without_an_exact_host_is_refused(host: str):
    assert len(problems("egress", egress_endpoints_extra=[{"host": host, "port": 80, "private": True}])) == 1


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_port_that_does_not_exist_is_refused(port: int):
    assert len(problems("egress", egress_allow_ports=[port])) == 1


def test_good_values_are_not_refused():
    endpoints = [
        {"host": host, "port": 8000, "private": True} for host in ("192.168.1.5", "ollama", "lan.test", "a_b.test")
    ]
    good = {"egress_allow_extra": ["x.test", ".x.test", "xn--bcher-kva.example"], "egress_endpoints_extra": endpoints}
    assert problems("egress", **good, egress_deny_networks=["203.0.113.7", "2001:db8::/32"]) == []
    assert problems("proxy", proxy_extra_hosts=["bot.example.com", "localhost:9000", "[::1]:9000"]) == []


@pytest.mark.parametrize("variables", [
    {"proxy_extra_hosts": ['x" 1; "y']}, {"proxy_extra_hosts": ["a b"]}, {"proxy_extra_hosts": ["http://x.test"]},
    {"proxy_trusted_headers": ["a b"]}, {"proxy_body_max": "1m; x"},
])  # fmt: skip
def test_value_that_nginx_would_read_as_more_is_refused(variables: dict[str, Any]):
    assert len(problems("proxy", **variables)) == 1


class TestNginx:
    def test_extra_host_is_known_with_its_port_and_by_its_name(self):
        text = nginx(proxy_extra_hosts=["Bot.example.com:8443"])
        assert text.count('"bot.example.com:8443" 1;') == 2
        assert text.count('"bot.example.com" 1;') == 1

    def test_trusted_header_is_passed_on_and_no_other(self):
        def handled(**variables: Any) -> set[str]:
            return {name.lower() for name in re.findall(r"proxy_set_header (\S+)", nginx(**variables))}

        trusted = ["x-forwarded-for", "CF-Access-Authenticated-User-Email"]
        assert handled() - handled(proxy_trusted_headers=trusted) == {name.lower() for name in trusted}

    def test_it_listens_on_edge_alone(self):
        assert re.findall(r"listen (\S+)", nginx()) == ["10.213.0.20:18789", "10.213.0.20:8080"]
