"""Builds the application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import Depends, FastAPI
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.middleware import Middleware
from starlette.templating import Jinja2Templates

import clawfactory_core

from .config import Settings
from .dependencies import Services, verify_origin
from .exception_handlers import add_exception_handlers
from .middleware.access_log import AccessLogMiddleware
from .middleware.body_limit import BodyLimitMiddleware
from .middleware.forwarded import ForwardedHeadersMiddleware
from .middleware.security_headers import SecurityHeadersMiddleware
from .routers import health, pages, session, status
from .services.gateway import GatewayProbe, make_gateway_client
from .services.session import SessionService
from .services.status import StatusService
from .services.throttle import LoginThrottle
from .static_files import RevalidatedStaticFiles

_HERE = Path(__file__).resolve().parent


def create_app(
    settings: Settings,
    *,
    gateway_transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Build the controller of one bot.

    :param settings: what the controller is told.
    :param gateway_transport: replaces the network to the gateway, in tests.
    :param clock: wall clock in seconds since the epoch.
    """
    gateway_client = make_gateway_client(gateway_transport)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway_client:
            yield

    app = FastAPI(
        title=f"ClawFactory controller of {settings.bot}",
        version=clawfactory_core.__version__,
        lifespan=lifespan,
        # The API describes itself to operators only (/openapi.json); documentation pages would need foreign scripts.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's spans would carry the query strings of ?token= links.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        middleware=[
            Middleware(AccessLogMiddleware),
            Middleware(SecurityHeadersMiddleware),
            Middleware(ForwardedHeadersMiddleware),
            Middleware(BodyLimitMiddleware),
        ],
    )
    app.state.services = _make_services(settings, GatewayProbe(gateway_client, settings.gateway_url), clock)
    add_exception_handlers(app)
    app.include_router(health.router)
    for module in (status, session, pages):
        app.include_router(module.router, dependencies=[Depends(verify_origin)])
    app.mount("/static", RevalidatedStaticFiles(directory=_HERE / "static"), name="static")
    return app


def _make_services(settings: Settings, gateway: GatewayProbe, clock: Callable[[], float]) -> Services:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Services(
        settings=settings,
        sessions=SessionService(
            token=settings.secrets.token.get_secret_value(),
            bot=settings.bot,
            throttle=LoginThrottle(),
            clock=clock,
        ),
        status=StatusService(
            bot=settings.bot,
            build=settings.version,
            approved_dir=settings.approved_dir,
            gateway=gateway,
            clock=clock,
        ),
        templates=Jinja2Templates(env=environment),
    )
