"""Builds the agent API: the second application, on the inside network, for the bot alone."""

from __future__ import annotations

import logging
from typing import cast

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import Response

import clawfactory_core
from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.jobs.protocol import Refusal

from .config import Settings
from .dependencies import Services
from .dependencies_agent import AgentServices, NotTheAgent
from .exception_handlers import add_problem_handlers, problem_response
from .middleware.access_log import AccessLogMiddleware
from .middleware.body_limit import BodyLimitMiddleware
from .middleware.security_headers import SecurityHeadersMiddleware
from .openapi import describe
from .routers import agent, agent_git
from .services.agent import AgentService
from .services.agent_access import AgentAccess
from .services.git_server import Busy, GitServer, GitServerPaths
from .services.push_limits import PushRate
from .services.session import WrongToken
from .services.throttle import LoginThrottle

_logger = logging.getLogger(__name__)

#: Where a body may be larger than elsewhere, in bytes; what git sends is bounded more closely where it is read.
_GIT_BODY = 80 << 20


def create_agent_app(settings: Settings, shared: Services) -> FastAPI:
    """Build the agent API of one bot. It knows the agent token, and not one route of the operator.

    :param settings: what the controller is told.
    :param shared: services of the operator's application; the bot's gets at four of them.
    """
    app = FastAPI(
        title=f"ClawFactory agent API of {settings.bot}",
        version=clawfactory_core.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        middleware=[
            Middleware(AccessLogMiddleware),
            Middleware(SecurityHeadersMiddleware),
            Middleware(BodyLimitMiddleware, larger={"/agent/repository.git/git-receive-pack": _GIT_BODY,
                                                    "/agent/repository.git/git-upload-pack": 2 << 20}),
        ],
    )  # fmt: skip
    app.state.services = AgentServices(
        access=AgentAccess(token=settings.secrets.agent_token.get_secret_value(), throttle=LoginThrottle()),
        agent=AgentService(
            bot=settings.bot,
            approved_dir=settings.approved_dir,
            promotion_dir=settings.promotion_dir,
            proposals=shared.proposals,
            jobs=shared.jobs,
        ),
        git=GitServer(
            GitServerPaths(settings.origin, settings.proposals, settings.promotion_dir, settings.fingerprints_file),
            push_bytes=settings.push_max_mb << 20,
            total_bytes=settings.proposals_max_mb << 20,
            most_proposals=settings.proposals_max,
            seconds=settings.push_seconds,
            rate=PushRate(settings.pushes_per_hour),
            pushed=shared.mirror.wake if shared.mirror else _nothing,
            refusals=shared.refusals,
        ),
    )
    add_problem_handlers(app)
    app.add_exception_handler(NotTheAgent, _handle_not_the_agent)
    app.add_exception_handler(WrongToken, _handle_wrong_token)
    app.add_exception_handler(Busy, _handle_busy)
    app.add_exception_handler(Refusal, _handle_refusal)
    app.add_exception_handler(CoreError, _handle_core_error)
    for module in (agent, agent_git):
        app.include_router(module.router)
    describe(app, schemes=("agent",))
    return app


def _nothing() -> None:
    """Nobody waits for a push."""


async def _handle_not_the_agent(request: Request, error: Exception) -> Response:
    scheme = "Basic" if cast(NotTheAgent, error).basic else "Bearer"
    return problem_response(401, str(error), headers={"WWW-Authenticate": f'{scheme} realm="ClawFactory agent API"'})


async def _handle_wrong_token(request: Request, error: Exception) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="ClawFactory agent API"'}
    return problem_response(401, "That is not this bot's agent token.", headers=headers)


async def _handle_refusal(request: Request, error: Exception) -> Response:
    error = cast(Refusal, error)
    if error.status < 500:
        return problem_response(error.status, error.detail)
    return _tell_the_log(503, error)


async def _handle_core_error(request: Request, error: Exception) -> Response:
    if isinstance(error, InvalidInput):
        return problem_response(400, str(error))
    return _tell_the_log(503, error)


def _tell_the_log(status: int, error: Exception) -> Response:
    # The text may tell how the machine is made, which is not for the bot.
    _logger.error("%s", error)
    return problem_response(status, "The controller cannot do this now; the operator finds the reason in its log.")


async def _handle_busy(request: Request, error: Exception) -> Response:
    return problem_response(503, str(error), headers={"Retry-After": "10"})
