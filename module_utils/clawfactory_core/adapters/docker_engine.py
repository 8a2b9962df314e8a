"""The Docker engine by the Docker SDK, for what needs more than looking."""

from __future__ import annotations

from pathlib import Path

from ..errors import CoreError, MissingDependency


def run_once(image: str, command: list[str], *, user: str, mount: tuple[Path, str], env: dict[str, str]) -> str:
    """Run a command in a throw-away container without network, capabilities or a writable root.

    :param mount: host directory and where it is bound, read-only.
    :returns: output (stdout and stderr).
    :raises CoreError: the command fails; the message is what it printed.
    :raises MissingDependency: the SDK cannot be imported.
    """
    try:
        import docker
        from docker.errors import APIError, ContainerError, DockerException
        from docker.types import LogConfig
    except ImportError as error:
        raise MissingDependency("docker") from error
    try:
        client = docker.from_env()
        client.images.get(image)  # the SDK would pull a missing one from a registry
        output = client.containers.run(
            image,
            command,
            user=user,
            environment=env,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            mem_limit="2g",
            pids_limit=256,
            init=True,
            # Whatever the engine's default driver is: the SDK reads back no other.
            log_config=LogConfig(type="json-file"),
            tmpfs={"/tmp": "rw,exec,size=256m,mode=1777", "/home/node/.cache": "rw,size=64m,mode=1777"},  # noqa: S108 - in the container
            volumes={str(mount[0]): {"bind": mount[1], "mode": "ro"}},
            stdout=True,
            stderr=True,
            remove=True,
        )
    except ContainerError as error:
        printed = error.stderr.decode("utf-8", "replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        raise CoreError(printed.strip()) from error
    except (APIError, DockerException, OSError) as error:  # the last is what the SDK's HTTP client raises
        raise CoreError(f"the Docker engine refused to run {command[0]} in {image}: {error}") from error
    return str(output.decode("utf-8", "replace"))
