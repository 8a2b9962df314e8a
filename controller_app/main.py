"""Builds the application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import Depends, FastAPI
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.middleware import Middleware
from starlette.templating import Jinja2Templates

import clawfactory_core

from . import formats
from .config import Settings
from .dependencies import Services, verify_origin
from .exception_handlers import add_exception_handlers
from .middleware.access_log import AccessLogMiddleware
from .middleware.body_limit import BodyLimitMiddleware
from .middleware.forwarded import ForwardedHeadersMiddleware
from .middleware.security_headers import SecurityHeadersMiddleware
from .openapi import describe
from .routers import (
    actions,
    audit,
    config_pages,
    devices,
    gateway,
    gateway_config,
    gateway_pages,
    health,
    jobs,
    killswitch,
    pages,
    promotion,
    session,
    snapshots,
    status,
    webhook,
)
from .schemas.webhook import PullRequestEvent
from .services.archives import ArchiveStore
from .services.audit import Refusals
from .services.background import running
from .services.broker import Broker
from .services.decisions import Decisions
from .services.devices import DeviceService
from .services.gateway import GatewayProbe, make_gateway_client
from .services.gateway_config import CHECK_SECONDS, LARGEST_BODY, ConfigService
from .services.gateway_link import GatewayLink
from .services.gateway_pairing import own_approval
from .services.git_remote import GitRemote
from .services.github import GitHub, make_github_client
from .services.jobs import JobsClient
from .services.log_stream import LogStreams
from .services.machine import MachineService
from .services.polling import Poller
from .services.proposals import ProposalService
from .services.remote import RemoteMirror
from .services.restart import RestartService
from .services.security_audit import SecurityAuditService
from .services.session import SessionService
from .services.status import StatusService
from .services.throttle import LoginThrottle
from .services.webhook import LARGEST_BODY as LARGEST_WEBHOOK
from .services.webhook import WebhookService
from .static_files import RevalidatedStaticFiles

_HERE = Path(__file__).resolve().parent
#: Paths whose bodies may be larger than others, with their bytes.
_LARGER = {
    "/webhook/github": LARGEST_WEBHOOK,
    **dict.fromkeys((*gateway_config.PATHS, *config_pages.PATHS), LARGEST_BODY),
}


def create_app(
    settings: Settings,
    *,
    gateway_transport: httpx.AsyncBaseTransport | None = None,
    github_transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Build the controller of one bot.

    :param settings: what the controller is told.
    :param gateway_transport: replaces the network to the gateway, in tests.
    :param github_transport: replaces the network to GitHub, in tests.
    :param clock: wall clock in seconds since the epoch.
    """
    gateway_client = make_gateway_client(gateway_transport)
    github_client = make_github_client(
        settings.github_api_url,
        token=settings.secrets.remote_token.get_secret_value(),
        proxy=settings.proxy_url,
        transport=github_transport,
    )
    services = _make_services(settings, GatewayProbe(gateway_client, settings.gateway_url), github_client, clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway_client, github_client, running(_background(settings, services)):
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
            Middleware(BodyLimitMiddleware, larger=_LARGER),
        ],
    )
    app.state.services = services
    add_exception_handlers(app)
    app.include_router(health.router)
    app.include_router(webhook.router)  # no browser's doing: the signature says where it comes from
    modules = (
        status,
        session,
        pages,
        actions,
        config_pages,
        promotion,
        snapshots,
        jobs,
        audit,
        devices,
        gateway,
        gateway_pages,
        gateway_config,
        killswitch,
    )
    for module in modules:
        app.include_router(module.router, dependencies=[Depends(verify_origin)])
    app.mount("/static", RevalidatedStaticFiles(directory=_HERE / "static"), name="static")
    describe(app, schemes=("bearer", "session"), bodies=(PullRequestEvent,))
    return app


def _background(settings: Settings, services: Services) -> dict[str, Coroutine[Any, Any, None]]:
    """What runs beside the answers, by name."""
    wanted: dict[str, Coroutine[Any, Any, None]] = {
        "refusals": services.refusals.run(),
        "gateway link": services.link.run(),
    }
    if services.mirror is not None:
        wanted["mirror"] = services.mirror.run()
    if settings.mirrors and settings.poll_seconds:
        poller = Poller(
            remote=_git_remote(settings),
            branch=settings.branch,
            approved_dir=settings.approved_dir,
            promotion=settings.promotion_dir,
            jobs=services.jobs,
            seconds=settings.poll_seconds,
        )
        wanted["polling"] = poller.run()
    return wanted


def _git_remote(settings: Settings) -> GitRemote:
    return GitRemote(
        url=settings.remote_url,
        user=settings.remote_user,
        token=settings.secrets.remote_token.get_secret_value(),
        proxy=settings.proxy_url,
        directory=settings.proposals,
        keys=settings.remote_keys_dir,
    )


def _make_mirror(settings: Settings, proposals: ProposalService, client: httpx.AsyncClient) -> RemoteMirror | None:
    if not settings.mirrors:
        return None
    repository = settings.github_repository
    github = GitHub(client, repository=repository, branch=settings.branch) if repository else None
    return RemoteMirror(bot=settings.bot, proposals=proposals, remote=_git_remote(settings), github=github)


def _make_services(
    settings: Settings, gateway: GatewayProbe, github_client: httpx.AsyncClient, clock: Callable[[], float]
) -> Services:
    jobs = JobsClient(settings.jobs_socket)
    machine = MachineService(jobs)
    refusals = Refusals(jobs)
    decisions = Decisions(jobs)
    proposals = ProposalService(
        origin=settings.origin,
        proposals=settings.proposals,
        promotion=settings.promotion_dir,
        remote=_git_remote(settings) if settings.mirrors else None,
        branch=settings.branch,
    )
    status = StatusService(
        bot=settings.bot,
        build=settings.version,
        approved_dir=settings.approved_dir,
        promotion_dir=settings.promotion_dir,
        gateway=gateway,
        machine=machine,
        proposals=proposals,
        clock=clock,
    )
    jobs.on_change(status.forget)
    broker = Broker(settings.broker_socket, settings.bot)
    link = GatewayLink(settings.gateway_url, settings.device_dir, own_approval(broker))
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"size": formats.size, "span": formats.span, "moment": formats.moment, "age": formats.age}
    environment.filters |= {**filters, "short": formats.short}
    return Services(
        settings=settings,
        sessions=SessionService(
            token=settings.secrets.token.get_secret_value(),
            bot=settings.bot,
            throttle=LoginThrottle(),
            clock=clock,
        ),
        status=status,
        templates=Jinja2Templates(env=environment),
        jobs=jobs,
        machine=machine,
        archives=ArchiveStore(settings.snapshots_dir),
        proposals=proposals,
        webhook=WebhookService(
            secret=settings.secrets.webhook_secret.get_secret_value(),
            repository=settings.github_repository,
            branch=settings.branch,
            actors=settings.actors,
            jobs=jobs,
            refusals=refusals,
        ),
        refusals=refusals,
        link=link,
        broker=broker,
        restart=RestartService(broker, decisions, clock, status.forget),
        logs=LogStreams(broker),
        audit=SecurityAuditService(broker, clock, settings.socket.with_name("security-audit.json")),
        gateway_config=ConfigService(jobs, JobsClient(settings.jobs_socket, timeout=CHECK_SECONDS), link),
        devices=DeviceService(link, settings.device_dir, decisions),
        mirror=_make_mirror(settings, proposals, github_client),
    )
