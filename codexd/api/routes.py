"""The HTTP side of codexd.sock: is the plugin alive, is the child ready, what is going on."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from codexd.api.http import HttpRequest, HttpResponse, error_response


class Routes:
    """Answers the documented paths; an :data:`.http.HttpHandler`.

    ``is_ready`` tells whether a request to the child is answered now, ``status`` gives
    `/v1/status` as JSON.
    """

    def __init__(self, is_ready: Callable[[], bool], status: Callable[[], bytes]) -> None:
        self._is_ready = is_ready
        self._status = status
        self._paths: dict[str, Callable[[], HttpResponse]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/v1/status": self._v1_status,
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer to one request."""
        answer = self._paths.get(request.path)
        if answer is None:
            return error_response(HTTPStatus.NOT_FOUND, f"There is nothing at {request.path}.")
        if request.method != "GET":
            text = f"{request.path} answers GET only."
            return error_response(HTTPStatus.METHOD_NOT_ALLOWED, text, {"Allow": "GET"})
        return answer()

    def _healthz(self) -> HttpResponse:
        return HttpResponse(HTTPStatus.OK, b'{"alive":true}\n')

    def _readyz(self) -> HttpResponse:
        if self._is_ready():
            return HttpResponse(HTTPStatus.OK, b'{"ready":true}\n')
        return HttpResponse(HTTPStatus.SERVICE_UNAVAILABLE, b'{"ready":false}\n')

    def _v1_status(self) -> HttpResponse:
        return HttpResponse(HTTPStatus.OK, self._status())
