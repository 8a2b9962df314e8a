from __future__ import annotations

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.machines import by_leader, leader, machine_key


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"ansible_connection": "local"}, "localhost"),
        ({"ansible_connection": "ansible.builtin.local", "ansible_host": "10.0.0.1"}, "localhost"),
        ({}, "bot1:22"),
        ({"ansible_host": "Server.Example.org"}, "server.example.org:22"),
        ({"ansible_host": "server", "ansible_port": 2222}, "server:2222"),
        ({"ansible_host": "server", "ansible_port": "2222", "ansible_connection": "ssh"}, "server:2222"),
        ({"ansible_host": "server", "ansible_connection": "paramiko"}, "server:22"),
        ({"ansible_host": "box", "ansible_connection": "community.docker.docker"}, "community.docker.docker:box"),
    ],
)
def test_key_of_a_machine(variables, key):
    assert machine_key({"inventory_hostname": "bot1", **variables}) == key


def test_a_host_without_a_name_is_refused():
    with pytest.raises(InvalidInput, match="inventory_hostname"):
        machine_key({})


HOSTS = {
    "bot1": {"inventory_hostname": "bot1", "ansible_connection": "local"},
    "bot2": {"inventory_hostname": "bot2", "ansible_host": "far"},
    "bot3": {"inventory_hostname": "bot3", "ansible_connection": "local"},
    "bot4": {"inventory_hostname": "bot4", "ansible_host": "far", "ansible_port": 2222},
}


@pytest.mark.parametrize(
    ("play", "host", "first"),
    [
        (["bot1", "bot2", "bot3", "bot4"], "bot3", "bot1"),
        (["bot3", "bot1"], "bot1", "bot3"),
        (["bot3"], "bot3", "bot3"),
        (["bot1", "bot2", "bot4"], "bot4", "bot4"),
    ],
)
def test_the_first_host_on_the_same_machine_leads(play, host, first):
    assert leader(play, HOSTS, host) == first


def test_every_machine_has_exactly_one_leader():
    leaders = {host: leader(list(HOSTS), HOSTS, host) for host in HOSTS}
    assert {machine_key(HOSTS[host]) for host in leaders.values()} == {machine_key(host) for host in HOSTS.values()}
    assert len(set(leaders.values())) == 3


def test_a_host_outside_the_play_is_refused():
    with pytest.raises(InvalidInput, match="bot9"):
        leader(["bot1"], HOSTS, "bot9")


def test_hosts_by_the_first_of_their_machine():
    variables = {
        "a": {"inventory_hostname": "a", "ansible_connection": "local"},
        "b": {"inventory_hostname": "b", "ansible_host": "192.0.2.7"},
        "c": {"inventory_hostname": "c", "ansible_connection": "local"},
    }
    assert by_leader(["c", "b", "a"], variables) == {"c": ["c", "a"], "b": ["b"]}
    assert by_leader([], {}) == {}
