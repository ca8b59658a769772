"""The application: pages over one run's desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware import Middleware
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException

from factory.errors import FactoryError, InputError, WarehouseError
from factory.predict.http_limits import RequestLimits
from factory.studio import card, programs, results, texts, work
from factory.studio.guard import Guard
from factory.studio.views import HERE, Views

if TYPE_CHECKING:
    from factory.studio.desk import Desk

HOSTS = frozenset({"127.0.0.1", "localhost"})
MOST_BYTES = 2_000_000
BODY_S = 30.0


def make_app(desk: Desk, *, token: str, cookie: str = "studio") -> Any:
    """The application of a desk.

    Args:
        desk: The run at hand.
        token: Whoever has it may ask.
        cookie: Name of the cookie that the token becomes.
    """
    views = Views(desk)
    app = FastAPI(
        title="label-factory studio", docs_url=None, redoc_url=None, openapi_url=None,
        middleware=[
            Middleware(RequestLimits, most_bytes=MOST_BYTES, seconds=BODY_S, hosts=HOSTS),
            Middleware(Guard, token=token, cookie=cookie),
        ],
    )  # fmt: skip
    app.mount("/static", StaticFiles(directory=HERE / "static"))

    @app.exception_handler(FactoryError)
    def fault(request: Request, error: FactoryError) -> Response:
        status = 409 if isinstance(error, WarehouseError) or "at work" in error.what else 422
        return views.fault(request, error, status)

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        words = "there is no such page" if error.status_code == 404 else str(error.detail)
        return views.fault(request, InputError(words), error.status_code)

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        return views.fault(request, InputError("there is no such page"), 404)

    for pages in (programs, texts, results, card, work):
        pages.add_to(app, views)
    return app
