"""What pages share: rendering, the session cookie, and addresses below the proxy's path prefix."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .dependencies import get_services
from .navigation import PAGES, current_page
from .services.session import SESSION_SECONDS, SessionService, TooManyAttempts, WrongToken


def is_page(request: Request) -> bool:
    """Whether a person in a browser waits for the answer, and not a program."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    # The API has POST /controller.
    return path == "/" or path.startswith("/pages/") or (path == "/controller" and request.method != "POST")


def render_page(
    request: Request, name: str, context: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Render the template ``name``; ``root`` in it is the prefix of every address."""
    services = get_services(request)
    root = request.scope.get("root_path", "")
    shared = {
        "root": root,
        "bot": services.settings.bot,
        "pages": PAGES,
        "current": current_page(request.scope["path"].removeprefix(root)),
    }
    return services.templates.TemplateResponse(
        request, name, {**shared, **context}, status_code=status, headers=headers
    )


def login_page(request: Request, *, refusal: WrongToken | TooManyAttempts | None = None) -> Response:
    """Render the login form, with the status code and text of ``refusal`` when an attempt was refused."""
    context = {"error": str(refusal) if refusal else None}
    if isinstance(refusal, TooManyAttempts):
        headers = {"Retry-After": str(refusal.retry_after)}
        return render_page(request, "login.html", context, status=429, headers=headers)
    return render_page(request, "login.html", context, status=401 if refusal else 200)


def set_session_cookie(request: Request, response: Response, sessions: SessionService) -> None:
    """Open a session and hand it to the browser."""
    response.set_cookie(
        sessions.cookie_name,
        sessions.open(),
        max_age=SESSION_SECONDS,
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def delete_session_cookie(request: Request, response: Response, sessions: SessionService) -> None:
    """Take the session from the browser."""
    response.delete_cookie(
        sessions.cookie_name,
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
