"""A registry of images for tests: Debian's own, in a container that is gone afterwards.

It is published on 127.0.0.1, where every engine takes a registry without TLS, under a port that the engine chooses.
"""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
import uuid
from types import TracebackType

from tests.support.polling import wait_for

_START = """set -eu
apt-get update -qq
apt-get install -qq --no-install-recommends docker-registry
printf 'version: 0.1\\nhttp: {addr: ":5000"}\\nstorage: {filesystem: {rootdirectory: /srv/images}}\\n' > /registry.yml
exec docker-registry serve /registry.yml
"""


class Registry:
    """A registry while the context lasts.

    :param base: image of Debian to install it in; a network to Debian's servers is needed.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._container = f"clawfactory-test-registry-{uuid.uuid4().hex[:8]}"
        self.address = ""

    def __enter__(self) -> Registry:
        options = ("--detach", "--name", self._container, "--publish", "127.0.0.1::5000", "--entrypoint", "sh")
        _docker("run", *options, self._base, "-c", _START)
        try:
            self.address = _docker("port", self._container, "5000/tcp").strip()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _docker("rm", "--force", "--volumes", self._container)

    def wait(self) -> None:
        """Wait until it is installed and answers.

        :raises AssertionError: it does not within two minutes.
        """
        wait_for(f"an answer of the registry {self._container}", self._answers, 120)

    def push(self, image: str, name: str) -> str:
        """Push an image under a name of this registry, and leave it on the engine under its old one only.

        :param image: reference of the image on the engine.
        :param name: ``repository:tag``.
        :returns: its digest.
        """
        there = f"{self.address}/{name}"
        _docker("tag", image, there)
        try:
            _docker("push", "--quiet", there)
            digests = _docker("inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", there).split()
        finally:
            _docker("rmi", there)
        return next(item.partition("@")[2] for item in digests if item.startswith(self.address))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr.strip()}"
    return done.stdout
