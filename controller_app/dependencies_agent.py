"""What routes of the agent API ask for, named once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from .dependencies import ClientAddressDep
from .services.agent import AgentService
from .services.agent_access import AgentAccess, presented_token
from .services.git_server import GitServer


@dataclass(frozen=True)
class AgentServices:
    """Everything the agent API is made of; ``create_agent_app`` builds it."""

    access: AgentAccess
    agent: AgentService
    git: GitServer


class NotTheAgent(Exception):
    """The bot has to present its token.

    :param basic: a login is welcome too, as git sends one.
    """

    def __init__(self, *, basic: bool) -> None:
        self.basic = basic
        super().__init__("Send 'Authorization: Bearer <CLAWFACTORY_AGENT_TOKEN>'.")


def get_agent_services(request: Request) -> AgentServices:
    """Return the services of the application that handles ``request``."""
    services: AgentServices = request.app.state.services
    return services


async def get_agent_service(request: Request) -> AgentService:
    """Return the service that answers the bot."""
    return get_agent_services(request).agent


async def get_git_server(request: Request) -> GitServer:
    """Return what runs git."""
    return get_agent_services(request).git


AgentServiceDep = Annotated[AgentService, Depends(get_agent_service)]
GitServerDep = Annotated[GitServer, Depends(get_git_server)]


async def require_agent(request: Request, client: ClientAddressDep) -> None:
    """Let only the bot pass.

    :raises NotTheAgent: no token.
    :raises WrongToken: another one.
    :raises TooManyAttempts: the client has to wait.
    """
    _check(request, client, basic=False)


async def require_agent_or_login(request: Request, client: ClientAddressDep) -> None:
    """Let only the bot pass, also by the login that git sends: any user name, and the token as password.

    :raises NotTheAgent: no token.
    :raises WrongToken: another one.
    :raises TooManyAttempts: the client has to wait.
    """
    _check(request, client, basic=True)


def _check(request: Request, client: str, *, basic: bool) -> None:
    token = presented_token(request.headers.get("authorization", ""), basic=basic)
    if token is None:
        raise NotTheAgent(basic=basic)
    get_agent_services(request).access.check(token, client=client)
