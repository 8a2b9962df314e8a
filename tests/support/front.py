"""Real nginx: the bot's own proxy with the role's configuration, and another that does what Tailscale Serve or a
Cloudflare tunnel do in front of it. Both are documented: Serve cuts the path off and appends what is left to its
target; cloudflared passes the path on, and asks for Access rule by rule.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.polling import wait_for

_HEADERS = """
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header X-Forwarded-For 100.64.0.7;
    proxy_set_header Tailscale-User-Login operator@example.com;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
"""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def nginx(directory: Path, text: str, port: int) -> Iterator[None]:
    """Run nginx with a configuration until the block ends.

    :param directory: for what it writes.
    :param port: where it has to listen.
    """
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    assert path, "there is no nginx; './clawfactory test browser' installs it"
    directory.mkdir()
    text = text.replace("/run/nginx.pid", f"{directory}/nginx.pid").replace("_path /tmp/", f"_path {directory}/")
    # The directory is of whoever runs the tests, and nginx of root would give its workers to somebody else.
    (directory / "nginx.conf").write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([path, "-e", "stderr", "-c", str(directory / "nginx.conf")], stdout=log, stderr=log)
    try:
        wait_for("nginx listening, or ending", lambda: _answers(port) or process.poll() is not None, 20, every=0.05)
        assert process.poll() is None, (directory / "log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def serve_config(routes: list[Mapping[str, Any]], hostname: str, ports: Mapping[int, int], certificate: Path) -> str:
    """What Tailscale Serve does with these routes.

    :param ports: where it listens on 127.0.0.1, by port of the outside.
    """
    servers = []
    for outside in sorted({route["port"] for route in routes}):
        locations = "".join(
            f"location = {route['path']} {{ proxy_pass {route['target']}; }}\n"
            f"location {route['path']}/ {{ proxy_pass {route['target']}/; }}\n"
            if route["path"] != "/"
            else f"location / {{ proxy_pass {route['target']}; }}\n"
            for route in routes
            if route["port"] == outside
        )
        servers.append(_server(ports[outside], hostname, certificate, locations))
    return _config(servers)


def tunnel_config(rules: list[Mapping[str, Any]], port: int, certificate: Path) -> str:
    """What a Cloudflare tunnel does with these rules; a request has passed Access if it has an assertion."""
    servers = []
    for hostname in dict.fromkeys(rule["hostname"] for rule in rules if "hostname" in rule):
        locations = ""
        for rule in rules:
            if rule.get("hostname") == hostname:
                place = f"~ {rule['path']}" if "path" in rule else "/"
                access = rule.get("originRequest", {}).get("access", {}).get("required")
                check = 'if ($http_cf_access_jwt_assertion = "") { return 403; }' if access else ""
                locations += f"location {place} {{ {check} proxy_pass {rule['service']}; }}\n"
        servers.append(_server(port, hostname, certificate, locations))
    return _config(servers)


def _server(port: int, name: str, certificate: Path, locations: str) -> str:
    rest = "" if "location / " in locations else "location / { return 404; }"
    return f"""
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {name};
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    {_HEADERS}
    {locations} {rest}
  }}"""


def _config(servers: list[str]) -> str:
    temporary = "".join(
        f"{name}_temp_path /tmp/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""daemon off; pid /run/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  {temporary} access_log off;
  {"".join(servers)}
}}
"""


def certificate(directory: Path) -> Path:
    """A certificate that nobody trusts, and its key, in one file."""
    path = directory / "certificate.pem"
    subject = ["-subj", "/CN=front", "-days", "2", "-keyout", str(path), "-out", str(path)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run(command, check=True, capture_output=True)
    return path
