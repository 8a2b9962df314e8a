"""The state of the bot as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from ..schemas.status import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("ready", "not_ready", "starting", "draining", "down")
_Value = float | int | bool | None


def write_metrics(status: Status) -> str:
    """Return one line for each figure. What is not known has none: an absent figure is no zero."""
    return "".join(_family(*family) for family in _families(status))


def _families(status: Status) -> Iterator[tuple[str, str, dict[str, _Value]]]:
    bot = _label("bot", status.bot)
    machine, snapshot = status.machine, status.snapshot
    version = f"{bot},{_label('version', status.version)}"
    commit = f"{bot},{_label('commit', status.approved.commit or '')}"
    states: dict[str, _Value] = {f"{bot},{_label('state', state)}": status.gateway.state == state for state in _STATES}
    latency = status.gateway.latency_ms
    run = machine.schedule
    ok = None if run is None or run.state == "running" else run.state != "failed"
    age = (status.time - run.time).total_seconds() if run and run.time else None
    yield "info", "Version of the controller.", {version: 1}
    yield "gateway_state", "State of the gateway; the one that holds is 1.", states
    yield "gateway_up", "Whether OpenClaw takes messages.", {bot: status.gateway.ready}
    yield "gateway_probe_seconds", "Time of the liveness probe.", {bot: None if latency is None else latency / 1000}
    yield "approved_info", "The approved commit.", {commit: 1 if status.approved.commit else None}
    yield "approved_drift_files", "Approved files that are not as promoted.", {bot: _count(machine.drift)}
    yield "approved_behind_commits", "Commits of the branch that are not approved.", {bot: machine.behind}
    yield "proposals_open", "Proposals that wait for a decision.", {bot: status.proposals_open}
    yield "locked", "Whether the kill switch is thrown.", {bot: machine.locked}
    yield "egress_denied_hosts", "Hosts that were refused lately.", {bot: _count(machine.denials)}
    yield "snapshots", "Number of snapshots.", {bot: snapshot.count if snapshot else None}
    yield "snapshots_bytes", "Size of all snapshots.", {bot: snapshot.total_size if snapshot else None}
    yield "snapshot_age_seconds", "Age of the newest snapshot.", {bot: snapshot.age if snapshot else None}
    yield "snapshot_schedule_ok", "Whether the last scheduled snapshot succeeded.", {bot: ok}
    yield "snapshot_schedule_age_seconds", "Time since the last scheduled snapshot began.", {bot: age}
    yield "disk_free_bytes", "Room on the machine's disk.", {bot: machine.free_bytes}
    yield "problems", "What could not be looked at.", {bot: len(status.problems)}


def _family(name: str, text: str, samples: dict[str, _Value]) -> str:
    known = [f"clawfactory_{name}{{{labels}}} {value:g}\n" for labels, value in samples.items() if value is not None]
    if not known:
        return ""
    return f"# HELP clawfactory_{name} {text}\n# TYPE clawfactory_{name} gauge\n{''.join(known)}"


def _count(found: Sized | None) -> int | None:
    return None if found is None else len(found)


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{escaped}"'
