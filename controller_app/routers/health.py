"""Liveness of the controller, for the container engine and the role."""

from __future__ import annotations

from fastapi import APIRouter

from ..dependencies import StatusServiceDep
from ..schemas.health import Health

router = APIRouter(tags=["health"])


@router.get("/health")
async def read_health(status: StatusServiceDep) -> Health:
    """Say that the controller is up; needs no token and waits for nothing."""
    return status.read_health()
