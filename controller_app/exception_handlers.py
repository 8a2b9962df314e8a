"""Turns errors into responses: problem documents (RFC 9457) for programs, pages for browsers."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.jobs.protocol import Refusal

from .dependencies import (
    ForeignOrigin,
    LinkRedeemed,
    LinkRefused,
    LoginRequired,
    NotAuthenticated,
    Services,
    get_services,
)
from .middleware.security_headers import SECURITY_HEADERS
from .schemas.problem import Problem, ProblemField
from .services.archives import TooManyDownloads, UnknownSnapshot
from .services.proposals import UnknownProposal
from .services.session import TooManyAttempts, WrongToken
from .web import is_page, login_page, render_page, set_session_cookie

_PASSED_ON = (503, 504, 507)
_logger = logging.getLogger(__name__)


def add_exception_handlers(app: FastAPI) -> None:
    """Register every handler of the operator's application on ``app``."""
    add_problem_handlers(app)
    app.add_exception_handler(NotAuthenticated, _handle_not_authenticated)
    app.add_exception_handler(WrongToken, _handle_not_authenticated)
    app.add_exception_handler(ForeignOrigin, _handle_foreign_origin)
    app.add_exception_handler(LoginRequired, _handle_login_required)
    app.add_exception_handler(LinkRedeemed, _handle_link_redeemed)
    app.add_exception_handler(LinkRefused, _handle_link_refused)


def add_problem_handlers(app: FastAPI) -> None:
    """Register on ``app`` what both applications answer with problem documents."""
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(TooManyAttempts, _handle_too_many_attempts)
    app.add_exception_handler(CoreError, _handle_core_error)
    app.add_exception_handler(Refusal, _handle_refusal)
    app.add_exception_handler(UnknownProposal, _handle_unknown)
    app.add_exception_handler(UnknownSnapshot, _handle_unknown)
    app.add_exception_handler(TooManyDownloads, _handle_too_many_downloads)
    app.add_exception_handler(OSError, _handle_os_error)
    app.add_exception_handler(Exception, _handle_unexpected)


def problem_response(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[ProblemField] | None = None,
) -> JSONResponse:
    """Build a problem document.

    :param status: HTTP status code.
    :param detail: what was wrong and the way out; shown to people.
    """
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, media_type="application/problem+json")


def _answer(
    request: Request,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[ProblemField] | None = None,
) -> Response:
    """A problem document, or a page that says the same where a person waits for one."""
    if not is_page(request) or not isinstance(getattr(request.app.state, "services", None), Services):
        return problem_response(status, detail, headers=headers, errors=errors)
    context = {"status_code": status, "detail": detail, "errors": errors or []}
    return render_page(request, "problem.html", context, status=status, headers=dict(headers or {}))


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    return _answer(request, error.status_code, str(error.detail), headers=error.headers)


async def _handle_invalid_request(request: Request, error: Exception) -> Response:
    error = cast(RequestValidationError, error)
    fields = [
        ProblemField(location=".".join(str(part) for part in item["loc"]), message=item["msg"])
        for item in error.errors()
    ]
    return _answer(request, 422, "The request has missing or malformed values.", errors=fields)


async def _handle_not_authenticated(request: Request, error: Exception) -> Response:
    return problem_response(401, str(error), headers={"WWW-Authenticate": 'Bearer realm="ClawFactory controller"'})


async def _handle_too_many_attempts(request: Request, error: Exception) -> Response:
    error = cast(TooManyAttempts, error)
    return _answer(request, 429, str(error), headers={"Retry-After": str(error.retry_after)})


async def _handle_foreign_origin(request: Request, error: Exception) -> Response:
    return _answer(request, 403, str(error))


async def _handle_login_required(request: Request, error: Exception) -> Response:
    if "hx-request" in request.headers:
        # What a script would put into the page is the login form; the whole page has to go there.
        return problem_response(401, str(error) or "Log in again.", headers={"HX-Refresh": "true"})
    return RedirectResponse(f"{request.scope.get('root_path', '')}/login", status_code=303)


async def _handle_link_redeemed(request: Request, error: Exception) -> Response:
    location = cast(LinkRedeemed, error).location
    response = RedirectResponse(location, status_code=303)
    set_session_cookie(request, response, get_services(request).sessions)
    return response


async def _handle_link_refused(request: Request, error: Exception) -> Response:
    return login_page(request, refusal=cast(LinkRefused, error).cause)


async def _handle_core_error(request: Request, error: Exception) -> Response:
    if isinstance(error, InvalidInput):
        return _answer(request, 400, str(error))
    # What is none of these is something that does not answer or cannot be read; the text says which.
    return _answer(request, 409 if isinstance(error, Conflict) else 503, str(error))


async def _handle_os_error(request: Request, error: Exception) -> Response:
    error = cast(OSError, error)
    _logger.error("%s %s: %s", request.method, request.scope["path"], error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _answer(request, 507, "The disk of the machine is full; make room on it.")
    return _answer(request, 503, f"The controller cannot do this now: {error.strerror or type(error).__name__}.")


async def _handle_refusal(request: Request, error: Exception) -> Response:
    # The machine speaks in statuses of its own making; what is none of HTTP's is its failure.
    error = cast(Refusal, error)
    known = error.status in _PASSED_ON or (400 <= error.status < 500 and error.status in set(HTTPStatus))
    return _answer(request, error.status if known else 502, f"{error.title}: {error.detail}")


async def _handle_too_many_downloads(request: Request, error: Exception) -> Response:
    return _answer(request, 429, str(error), headers={"Retry-After": "30"})


async def _handle_unknown(request: Request, error: Exception) -> Response:
    return _answer(request, 404, str(error))


async def _handle_unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback. This answer passes no middleware, so it brings the headers itself.
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
    return problem_response(500, "The controller failed; its container log has the details.", headers=headers)
