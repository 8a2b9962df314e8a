"""A bot from elsewhere: a real browser, a real nginx in the place of Tailscale Serve or a Cloudflare tunnel, the bot's
own proxy with the role's configuration, and the real controller behind it. The gateway is one that was taken over.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader
from ansible.template import trust_as_template
from playwright.sync_api import Browser, expect
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from clawfactory_core.remote_access import addresses, parse_remote_access, published, serve_routes
from tests.support.chromium import launched
from tests.support.cloudflared import read_rules
from tests.support.controller_stack import ControllerStack, serving
from tests.support.front import certificate, free_port, nginx, serve_config, tunnel_config
from tests.support.role_templates import BOT, ROLES, templar
from tests.support.role_templates import nginx as nginx_config
from tests.unit.core.test_remote_access import CLOUDFLARE, TAILSCALE

_PAGE = b"<!doctype html><title>gateway</title><p id=said></p>"
PASSED = {"Cf-Access-Jwt-Assertion": "of-access"}


@dataclass
class Gateway:
    """Serves one page and a WebSocket that says what it hears, and keeps what it was sent."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with serve(self._converse, "127.0.0.1", 0, process_request=self._answer, compression=None) as server:
            self.port = server.socket.getsockname()[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()

    def _answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if request.headers.get("Upgrade"):
            return None
        return Response(200, "OK", Headers({"Content-Type": "text/html", "Content-Length": str(len(_PAGE))}), _PAGE)

    def _converse(self, connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)


@dataclass
class Site:
    """One machine with two bots, of which the second is locked."""

    where: dict[str, str]
    front: dict[int, int]
    gateway: Gateway
    headers: dict[str, str]
    #: Where the bot's proxy listens for its controller.
    proxy: int

    def get(self, host: str, path: str, **headers: str) -> tuple[int, str]:
        """Status and redirect of one request, sent as it is."""
        port = int(host.partition(":")[2] or 443)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return self._ask(
            http.client.HTTPSConnection("127.0.0.1", self.front[port], context=context), host, path, headers
        )

    def get_from_proxy(self, host: str, path: str) -> tuple[int, str]:
        """The same without what is in front, which may hand on a path as it came."""
        return self._ask(http.client.HTTPConnection("127.0.0.1", self.proxy), host, path, {})

    def _ask(
        self, connection: http.client.HTTPConnection, host: str, path: str, headers: dict[str, str]
    ) -> tuple[int, str]:
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": host, **headers})
            response = connection.getresponse()
            return response.status, response.headers.get("Location", "")


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> None:
    init_plugin_loader()


@pytest.fixture(params=["tailscale", "cloudflare"])
def site(request: pytest.FixtureRequest, stack: ControllerStack, tmp_path: Path) -> Iterator[Site]:
    variables: dict[str, Any] = TAILSCALE if request.param == "tailscale" else CLOUDFLARE
    plan = parse_remote_access("bot1", {**variables, "remote_access_cloudflare_webhook": True}, "systemd", {})
    gateway_port, controller_port = free_port(), free_port()
    bots = {
        "bot1": {"gateway_port": gateway_port, "controller_port": controller_port, "webhook": True},
        "bot2": {"gateway_port": free_port(), "controller_port": free_port(), "webhook": False},
    }
    record = published({"bots": {}}, plan, "1", bots, [])
    gateway, operator = Gateway(), tmp_path / "operator.sock"
    with gateway.running(), serving(stack.app, operator) as controller:
        services = [
            {"name": "gateway", "port": gateway_port, "published": gateway_port, "upstream": f"http://127.0.0.1:{gateway.port}"},
            {"name": "controller", "port": controller_port, "published": controller_port, "upstream": controller},
        ]  # fmt: skip
        bot = {**BOT, "gateway_port": gateway_port, "addresses": {**BOT["addresses"], "proxy_edge": "127.0.0.1"}}
        proxy = nginx_config(remote_access_plan=plan, host_bot=bot, __proxy_services=services)
        outside = {443: free_port(), gateway_port: free_port(), bots["bot2"]["gateway_port"]: free_port()}
        if request.param == "tailscale":
            front = serve_config(serve_routes(record), plan["hostname"], outside, certificate(tmp_path))
        else:
            front = tunnel_config(read_rules(_tunnel(record)), outside[443], certificate(tmp_path))
        with (
            nginx(tmp_path / "proxy", proxy, controller_port),
            nginx(tmp_path / "front", front, outside[443]),
        ):
            passed = PASSED if request.param == "cloudflare" else {}
            yield Site(addresses(plan, "bot1", gateway_port), outside, gateway, passed, controller_port)


def _tunnel(record: dict[str, Any]) -> str:
    text = (ROLES / "remote_access" / "templates" / "config.yml.j2").read_text()
    found = templar("remote_access", {"__remote_access_after": record}).copy_with_new_env()
    return str(found.template(trust_as_template(text), overrides={"trim_blocks": True, "lstrip_blocks": True}))


def test_an_operator_works_below_the_paths_and_a_hostile_gateway_is_a_stranger_there(
    site: Site, stack: ControllerStack, browser: Browser
):
    gateway, controller, name = site.where["gateway"], site.where["controller"], site.where["controller_host"]
    places = {(name, 443), (site.where["gateway_host"].partition(":")[0], int(site.where["gateway_port"]))}
    mapped = ", ".join(f"MAP {host}:{port} 127.0.0.1:{site.front[port]}" for host, port in places)
    with launched(browser.browser_type, f"--host-resolver-rules={mapped}") as elsewhere:
        context = elsewhere.new_context(ignore_https_errors=True, extra_http_headers=site.headers)
        context.add_cookies(
            [{"name": "CF_Authorization", "value": "opens", "url": url} for url in (gateway, controller)]
        )
        page = context.new_page()

        page.goto(f"https://{name}/bot1/#token=secret")
        expect(page).to_have_url(f"{gateway}/#token=secret")
        said = page.evaluate("""() => new Promise(done => {
            const socket = new WebSocket('wss://' + location.host + '/');
            socket.onopen = () => socket.send('hello'); socket.onmessage = event => done(event.data); })""")
        assert said == "hello"
        upgrade = site.gateway.requests[-1].headers
        assert (upgrade["Origin"], upgrade["Host"]) == (gateway, site.where["gateway_host"])
        assert (upgrade["X-Forwarded-Proto"], upgrade["X-Forwarded-Port"]) == ("https", site.where["gateway_port"])

        page.goto(f"{controller}?token={stack.token}")
        expect(page).to_have_url(controller)
        (cookie,) = [one for one in context.cookies() if one["name"].startswith("clawfactory-")]
        assert (cookie["path"], cookie["domain"]) == ("/bot1/controller", name)
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        page.get_by_role("link", name="Memory", exact=True).click()
        expect(page).to_have_url(f"{controller}pages/memory")
        page.get_by_role("button", name="Back up").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Memory backup is done")
        assert page.url.startswith(f"{controller}pages/jobs/")
        asked = len(stack.jobs.jobs)

        # The gateway's page, with the operator's session in the same browser.
        page.goto(f"{gateway}/")
        read = page.evaluate(
            "url => fetch(url, {credentials: 'include'}).then(() => 'read', () => 'refused')", controller
        )
        assert read == "refused"
        with page.expect_navigation() as navigation:
            page.evaluate(
                """url => { const form = document.createElement('form'); form.method = 'post'; form.action = url;
                document.body.append(form); form.submit(); }""",
                f"{controller}pages/memory/backup",
            )
        assert navigation.value.status == 403
        assert len(stack.jobs.jobs) == asked
        page.goto(f"{gateway}/bot1/controller/")
        cookies = " ".join(request.headers.get("Cookie", "") for request in site.gateway.requests)
        assert "clawfactory-" not in cookies and "CF_Authorization" not in cookies
        assert not any("Cf-Access-Jwt-Assertion" in request.headers for request in site.gateway.requests)
        assert not any("Tailscale-User-Login" in request.headers for request in site.gateway.requests)


def test_nothing_but_the_listed_paths_is_published(site: Site):
    name = site.where["controller_host"]
    assert site.get(name, "/bot1", **site.headers) == (302, f"{site.where['gateway']}/")
    assert site.get(name, "/bot1/controller", **site.headers) == (303, "/bot1/controller/login")
    for path in (
        "/", "/login", "/status", "/webhook/github", "/bot1x/controller/login", "/bot3/controller/login",
        "/bot1/status", "/bot1/controllerx/login", "/bot1/%2e%2e/login", "/bot1/controller/..%2f..%2fstatus",
        "/bot1/controller/../../status", "/bot1/../status", "/agent/status", "/bot1/agent/status",
    ):  # fmt: skip
        assert site.get(name, path, **site.headers)[0] in (400, 404), path
        assert site.get_from_proxy(name, path)[0] in (400, 404), path
    assert site.get_from_proxy(name, "/bot1/controller/../../bot2/controller/login")[0] == 404
    assert site.get_from_proxy("bot9.example.com", "/bot1/controller/login")[0] == 421
    # On the machine itself everything is as it was.
    here = f"127.0.0.1:{site.proxy}"
    assert site.get_from_proxy(here, "/") == (303, "/login")
    assert [site.get_from_proxy(here, path)[0] for path in ("/bot1", "/bot1/controller/login")] == [404, 404]
    # The second bot is locked: its proxy is dead, and that is all its paths lead to.
    assert site.get(name, "/bot2/controller/login", **site.headers)[0] == 502
    # GitHub has no login at Access, and nobody else gets past it. In a tailnet there is no GitHub.
    forged = {"X-Forwarded-Host": "evil.test", "X-Forwarded-Prefix": "/evil"}
    assert site.get(name, "/bot1/controller/webhook/github", **forged)[0] == 405
    if site.headers:
        for host, path in ((name, "/bot1/controller/login"), (name, "/bot1"), (site.where["gateway_host"], "/"),
                           (name, "/bot1/controller/webhook/github/x")):  # fmt: skip
            assert site.get(host, path)[0] == 403, path
