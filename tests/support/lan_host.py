"""A neighbour of the machine for tests: a process in a network namespace of its own, joined by a virtual cable.

To the machine and its containers it looks like another computer in the operator's network: traffic to it leaves the
bridges and is forwarded. A container could not play that part, because Docker cuts its bridges off from each other.
Needs root and iproute2.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

# Reserved for documentation (RFC 5737, RFC 3849): no real network of the operator can have them.
MACHINE_IPV4, LAN_IPV4 = "198.51.100.1", "198.51.100.2"
MACHINE_IPV6, LAN_IPV6 = "2001:db8:c1a3::1", "2001:db8:c1a3::2"


class LanHost:
    """A namespace with the addresses ``LAN_IPV4`` and ``LAN_IPV6``, in which commands can run.

    :param name: name of the namespace, at most 12 characters; what is left of an earlier run is removed.
    """

    def __init__(self, name: str = "cf-lan") -> None:
        self.name = name
        self._cable = f"{name}-o"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> LanHost:
        self._remove()
        outer, inner = self._cable, f"{self.name}-i"
        _ip("netns", "add", self.name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
        _ip("address", "add", f"{MACHINE_IPV4}/30", "dev", outer)
        _ip("address", "add", f"{MACHINE_IPV6}/64", "dev", outer, "nodad")
        _ip("link", "set", outer, "up")
        _ip("-n", self.name, "address", "add", f"{LAN_IPV4}/30", "dev", inner)
        _ip("-n", self.name, "address", "add", f"{LAN_IPV6}/64", "dev", inner, "nodad")
        _ip("-n", self.name, "link", "set", inner, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "route", "add", "default", "via", MACHINE_IPV4)
        _ip("-n", self.name, "route", "add", "default", "via", MACHINE_IPV6)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(timeout=10)
        self._remove()

    def start(self, command: Sequence[str], env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start ``command`` in the namespace; it ends with the namespace."""
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], env={**os.environ, **(env or {})})
        self._processes.append(process)
        return process

    def run(self, command: Sequence[str], timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in the namespace and wait for it; the caller looks at the exit status."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, timeout=timeout, check=False
        )

    def _remove(self) -> None:
        # The kernel takes its time to end a namespace; without its cable nothing of it is left on the machine at once.
        if Path("/sys/class/net", self._cable).exists():
            _ip("link", "delete", self._cable)
        if Path("/run/netns", self.name).exists():
            _ip("netns", "delete", self.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)
