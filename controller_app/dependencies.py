"""What routes ask for, named once.

All of it is asynchronous although nothing here waits: FastAPI has a thread run what is not, which costs more than it
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.templating import Jinja2Templates

from .config import Settings
from .origin import is_same_origin
from .services.archives import ArchiveStore
from .services.audit import Refusals
from .services.broker import Broker
from .services.devices import DeviceService
from .services.gateway_config import ConfigService
from .services.gateway_link import GatewayLink
from .services.jobs import JobsClient
from .services.log_stream import LogStreams
from .services.machine import MachineService
from .services.proposals import ProposalService
from .services.remote import RemoteMirror
from .services.restart import RestartService
from .services.security_audit import SecurityAuditService
from .services.session import SessionService, TooManyAttempts, WrongToken
from .services.status import StatusService
from .services.webhook import WebhookService

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Of Sec-Fetch-Site: our own pages, and what the operator typed or opened from elsewhere than a page.
_OWN_SITES = frozenset({"same-origin", "none"})
#: Routes that a link on another page may lead to.
_LINKED = frozenset({"/", "/controller", "/login"})


@dataclass(frozen=True)
class Services:
    """Everything one application is made of; ``create_app`` builds it."""

    settings: Settings
    sessions: SessionService
    status: StatusService
    templates: Jinja2Templates
    jobs: JobsClient
    machine: MachineService
    archives: ArchiveStore
    proposals: ProposalService
    webhook: WebhookService
    refusals: Refusals
    link: GatewayLink
    devices: DeviceService
    broker: Broker
    restart: RestartService
    logs: LogStreams
    audit: SecurityAuditService
    gateway_config: ConfigService
    #: ``None`` where nothing is mirrored.
    mirror: RemoteMirror | None


class NotAuthenticated(Exception):
    """A program has to present the token."""

    def __init__(self) -> None:
        super().__init__("Send 'Authorization: Bearer <CONTROLLER_TOKEN>' or log in at /login.")


class ForeignOrigin(Exception):
    """A browser was sent here by a page that is not this controller's."""

    def __init__(self) -> None:
        super().__init__(
            "Writes, and what scripts read, must come from the controller's own pages: Origin (or Referer) has to name "
            "the address of the request, and Sec-Fetch-Site may not name another site. If you are on that page, the "
            "proxy must pass the Host header on with its port; if a login elsewhere sent you here, open it again."
        )


class LoginRequired(Exception):
    """A browser has to log in first."""


class LinkRedeemed(Exception):
    """A ``?token=`` link was right.

    :param location: the address of the page without the token.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(location)


class LinkRefused(Exception):
    """A ``?token=`` link was not accepted, because of ``cause``."""

    def __init__(self, cause: WrongToken | TooManyAttempts) -> None:
        self.cause = cause
        super().__init__(str(cause))


def get_app_services(app: FastAPI) -> Services:
    """Return the services of the operator's application."""
    services: Services = app.state.services
    return services


def get_services(request: Request) -> Services:
    """Return the services of the application that handles ``request``."""
    return get_app_services(request.app)


async def get_session_service(request: Request) -> SessionService:
    """Return the session service."""
    return get_services(request).sessions


async def get_status_service(request: Request) -> StatusService:
    """Return the status service."""
    return get_services(request).status


async def get_jobs(request: Request) -> JobsClient:
    """Return what asks the machine."""
    return get_services(request).jobs


async def get_machine(request: Request) -> MachineService:
    """Return what knows what the machine says."""
    return get_services(request).machine


async def get_archives(request: Request) -> ArchiveStore:
    """Return the snapshots as files."""
    return get_services(request).archives


async def get_proposal_service(request: Request) -> ProposalService:
    """Return the proposal service."""
    return get_services(request).proposals


async def get_webhook_service(request: Request) -> WebhookService:
    """Return what judges webhooks."""
    return get_services(request).webhook


async def get_device_service(request: Request) -> DeviceService:
    """Return what knows who may talk to the bot."""
    return get_services(request).devices


async def get_broker(request: Request) -> Broker:
    """Return what has the logs."""
    return get_services(request).broker


async def get_restart(request: Request) -> RestartService:
    """Return what restarts the gateway."""
    return get_services(request).restart


async def get_log_streams(request: Request) -> LogStreams:
    """Return what follows logs."""
    return get_services(request).logs


async def get_security_audit(request: Request) -> SecurityAuditService:
    """Return what keeps the security audit."""
    return get_services(request).audit


async def get_gateway_config(request: Request) -> ConfigService:
    """Return what shows and changes OpenClaw's configuration."""
    return get_services(request).gateway_config


SessionServiceDep = Annotated[SessionService, Depends(get_session_service)]
StatusServiceDep = Annotated[StatusService, Depends(get_status_service)]
JobsDep = Annotated[JobsClient, Depends(get_jobs)]
MachineDep = Annotated[MachineService, Depends(get_machine)]
ArchivesDep = Annotated[ArchiveStore, Depends(get_archives)]
ProposalServiceDep = Annotated[ProposalService, Depends(get_proposal_service)]
WebhookServiceDep = Annotated[WebhookService, Depends(get_webhook_service)]
DeviceServiceDep = Annotated[DeviceService, Depends(get_device_service)]
ConfigServiceDep = Annotated[ConfigService, Depends(get_gateway_config)]
BrokerDep = Annotated[Broker, Depends(get_broker)]
RestartDep = Annotated[RestartService, Depends(get_restart)]
LogStreamsDep = Annotated[LogStreams, Depends(get_log_streams)]
SecurityAuditDep = Annotated[SecurityAuditService, Depends(get_security_audit)]


async def get_client_address(request: Request) -> str:
    """Return the address the proxy saw, for throttling."""
    return request.client.host if request.client else "unknown"


ClientAddressDep = Annotated[str, Depends(get_client_address)]


async def verify_origin(request: Request) -> None:
    """Refuse what another page sends. Same site is not enough: the bot's own pages are on the same host.

    Its link may lead to the first page, and nothing else: some reads give the machine work.

    :raises ForeignOrigin: ``Origin``, else ``Referer``, of a write does not name this controller, or the browser says
        of a read that it is another page's.
    """
    source = request.headers.get("origin")
    if request.method not in _SAFE_METHODS:
        source = source or request.headers.get("referer")
    if source is None and _bearer_token(request) is not None:
        return  # no browser adds this header by itself, so there is nobody to protect
    if request.method in _SAFE_METHODS and source is None:
        own = _is_own_read(request)
    else:
        own = is_same_origin(source or "", scheme=request.url.scheme, host=request.headers.get("host", ""))
    if not own:
        raise ForeignOrigin


def _is_own_read(request: Request) -> bool:
    # A program says nothing about it, nor does a browser where the page is in plain HTTP and not on its own machine.
    site = request.headers.get("sec-fetch-site", "none")
    if site in _OWN_SITES:
        return True
    said = (request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest"))
    if said != ("navigate", "document") or "sec-purpose" in request.headers:  # a browser may fetch a link beforehand
        return False
    route: str = request.scope["route"].path
    # From another site the session's cookie does not come along: it ends at the login.
    return route in _LINKED or (site == "cross-site" and route.startswith("/pages/") and not route.endswith("/events"))


def is_operator(request: Request, sessions: SessionService, client: str) -> bool:
    """Say whether the request carries the token or an open session.

    :raises WrongToken: it carries another token.
    :raises TooManyAttempts: it carries a token and its client has to wait.
    """
    token = _bearer_token(request)
    if token is not None:
        sessions.check_token(token, channel="bearer", client=client)
        return True
    return sessions.is_open(request.cookies.get(sessions.cookie_name))


async def require_operator(request: Request, sessions: SessionServiceDep, client: ClientAddressDep) -> None:
    """Let only the operator pass, for routes that programs call.

    :raises NotAuthenticated: neither token nor session.
    """
    if not is_operator(request, sessions, client):
        raise NotAuthenticated


async def require_page_operator(request: Request, sessions: SessionServiceDep, client: ClientAddressDep) -> None:
    """Let only the operator pass, for pages.

    :raises LoginRequired: neither token nor session.
    """
    if not is_operator(request, sessions, client):
        raise LoginRequired


async def redeem_link_token(request: Request, sessions: SessionServiceDep, client: ClientAddressDep) -> None:
    """Log in by the ``?token=`` of a page's address, and take it out of the address.

    :raises LinkRedeemed: the token is right.
    :raises LinkRefused: the token is wrong, or the client has to wait.
    """
    token = request.query_params.get("token")
    if token is None or request.method != "GET":
        return
    try:
        sessions.check_token(token, channel="link", client=client)
    except (WrongToken, TooManyAttempts) as error:
        raise LinkRefused(error) from error
    rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
    # The path comes back percent-encoded, so it cannot name another host; pages have fixed paths anyway.
    raise LinkRedeemed(request.url.path + (f"?{rest}" if rest else ""))


def _bearer_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
