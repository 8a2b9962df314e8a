from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core import endpoints

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9](\.[a-z][a-z0-9]{1,8}){0,3}", fullmatch=True)
HOSTS = st.builds(lambda dot, name: f".{name}" if dot and "." in name else name, st.booleans(), NAMES)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "kind"),
    [
        ("https://llm.example.com/v1", "llm.example.com", 443, True, "public"),
        ("https://LLM.Example.com./v1", "llm.example.com", 443, True, "public"),
        ("http://host.docker.internal:11434", "host.docker.internal", 11434, False, "machine"),
        ("http://10.1.2.3:8000/v1", "10.1.2.3", 8000, False, "private"),
        ("http://100.64.0.9/v1", "100.64.0.9", 80, False, "private"),
        ("http://[fd12::7]:8000/v1", "fd12::7", 8000, False, "private"),
        ("http://gpu-box/v1", "gpu-box", 80, False, "private"),
        ("http://gpu.lan:1234", "gpu.lan", 1234, False, "private"),
        ("https://1.1.1.1/v1", "1.1.1.1", 443, True, "public"),
    ],
)
def test_what_a_base_url_means(url, host, port, tls, kind):
    endpoint = endpoints.parse_url(url, "provider x")
    assert (endpoint.host, endpoint.port, endpoint.tls, endpoint.kind) == (host, port, tls, kind)
    assert endpoint.ordinary == (kind == "public" and tls and port == 443)


@pytest.mark.parametrize(
    "url",
    [
        "", "llm.example.com", "ftp://llm.example.com", "https://", "https:///v1", "http://[::1", "https://a b/v1",
        "https://user:hunter2@llm.example.com/v1", "https://llm.example.com/v1?key=1", "https://llm.example.com/#x",
        "https://llm.example.com:0/", "https://llm.example.com:99999/", "https://llm.example.com:x/",
        "https://llm.exämple.com/", "https://llm.example.com\\@evil/", "https://llm.example.com/\n",
        "http://localhost:11434", "http://a.localhost", "http://127.0.0.1:1", "http://127.1/", "http://2130706433/",
        "http://0x7f.1/", "http://0x7f000001/", "http://0177.0.0.1/", "http://0.0.0.0/", "http://[::]/",
        "http://[::1]:11434/", "http://[::1%25eth0]/", "http://169.254.169.254/", "http://[fe80::1]/",
        "http://[fd00:ec2::254]/", "http://metadata.google.internal/", "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[::7f00:1]/",
        "http://224.0.0.1/", "http://255.255.255.255/", "http://-a.example/", "http://a..example/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url):
    with pytest.raises(ValueError, match=r"[a-z]") as caught:
        endpoints.parse_url(url)
    assert "hunter2" not in str(caught.value)


@given(st.ip_addresses())
def test_no_address_of_the_machine_or_the_link_passes(address):
    text = f"[{address}]" if address.version == 6 else str(address)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    forbidden = [address, mapped] if mapped else [address]
    try:
        endpoint = endpoints.parse_url(f"http://{text}:8000/v1")
    except ValueError:
        return
    for one in forbidden:
        assert not (one.is_loopback or one.is_link_local or one.is_unspecified or one.is_multicast)
    assert endpoint.kind == ("public" if address.is_global else "private")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        (".Example.org", ".example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("9.9.9.9", "9.9.9.9"),
    ],
)
def test_allowed_hosts_get_one_form(value, wanted):
    assert endpoints.check_allowed_host(value) == wanted


@pytest.mark.parametrize(
    ("value", "way_out"),
    [
        ("*.example.org", "'.example.org'"),
        ("https://example.org", "host name only"),
        ("example.org/path", "host name only"),
        ("example.org:8443", "openai-compatible"),
        ("host.docker.internal", "base_url"),
        ("10.0.0.1", "base_url"),
        (".com", "two labels"),
        (".9.9.9.9", "two labels"),
        ("bücher.example", "xn--"),
        ("localhost", "host.docker.internal"),
        ("169.254.169.254", "no bot may reach"),
        ("", "not a host name"),
        (".", "not a host name"),
        ("a b.example", "not a host name"),
        ("example.org\nevil.example", "not a host name"),
    ],
)
def test_hosts_that_cannot_be_allowed(value, way_out):
    with pytest.raises(ValueError, match=way_out.replace(".", r"\.")):
        endpoints.check_allowed_host(value)


@given(st.lists(HOSTS, max_size=12))
def test_collapsing_allows_exactly_the_same_hosts_without_overlap(hosts):
    def allows(entries, host):
        return any(host == entry or (entry[0] == "." and f".{host}".endswith(entry)) for entry in entries)

    kept = endpoints.collapse(hosts)
    assert list(kept) == sorted(set(kept))
    for host in hosts:
        name = host.removeprefix(".")
        for candidate in (name, f"sub.{name}"):
            assert allows(kept, candidate) == allows(hosts, candidate)
    for one in kept:
        others = [entry for entry in kept if entry != one]
        assert not any(entry[0] == "." and f".{one.removeprefix('.')}".endswith(entry) for entry in others)
