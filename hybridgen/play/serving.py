"""The server of the page. It fetches nothing, and lets the page fetch nothing from anywhere else."""

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What the page may load: its own files alone. Gradio runs scripts that stand in the page, and draws from blobs.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
    ]
)
#: Parts of the addresses by which Gradio takes files, of which the page has no use.
_TAKES_FILES = {"upload", "process_recording"}
#: Seconds that open connections have to end when the server does.
_PATIENCE = 1


def prepare(folder: Path) -> None:
    """Keep Gradio from calling anywhere, and its files in a folder; to be called before it is imported.

    Raises:
        ValueError: if Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        missing = "" if error.name == "gradio" else f" ({error})"
        raise ValueError(f"the page needs Gradio{missing}: install it by `pip install 'hybridgen[play]'`") from None


def serve(page: Any, bound: socket.socket, host: str, folder: Path, ready: Callable[[], None]) -> None:
    """Serve a page until a signal comes.

    Args:
        page: a :class:`gradio.Blocks`.
        bound: the socket to listen at.
        host: as it was given.
        folder: the only one that files are served from.
        ready: called once the page can be opened.

    Raises:
        KeyboardInterrupt: on SIGINT, after the server has ended.
        ValueError: if the server does not start.
    """
    import uvicorn
    from fastapi import FastAPI
    from gradio import mount_gradio_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                ready()

    app = mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        server_name=host,
        server_port=bound.getsockname()[1],
        allowed_paths=[str(folder)],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size="1mb",
    )
    config = uvicorn.Config(
        _for_this_machine(_for_own_page(_with_policy(app)), host),
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=_PATIENCE,
    )
    server = Server(config)
    server.run(sockets=[bound])
    if not server.started:
        raise ValueError("the page could not be started: see whether `hybridgen doctor` finds what is wrong")


def _for_this_machine(app: Any, host: str) -> Any:
    """An ASGI application that, where it listens on this machine alone, answers to names of this machine alone.

    A page elsewhere could else have its own name point here, and read this one from the person's browser.
    """
    own = {b"localhost", b"127.0.0.1", b"[::1]"}
    if not _is_loopback(host):
        return app

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            asked = dict(scope["headers"]).get(b"host", b"").lower()
            name = asked.partition(b"]")[0] + b"]" if asked.startswith(b"[") else asked.partition(b":")[0]
            if name not in own | {host.lower().encode(), b"[" + host.lower().encode() + b"]"}:
                await _refuse(scope, send, 421, b"This page has another address.")
                return
        await app(scope, receive, send)

    return wrapped


def _for_own_page(app: Any) -> Any:
    """An ASGI application that answers to its own page alone, and takes no files.

    A page elsewhere could else have a person's browser send it something. Browsers say where a request comes from
    wherever it could change something.
    """

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = dict(scope["headers"])
            origin, asked = headers.get(b"origin"), headers.get(b"host", b"").lower()
            if origin is not None and origin.lower() not in (b"http://" + asked, b"https://" + asked):
                await _refuse(scope, send, 403, b"This page answers to itself alone.")
                return
            if _TAKES_FILES & set(scope["path"].split("/")):
                await _refuse(scope, send, 403, b"This page takes no files.")
                return
        await app(scope, receive, send)

    return wrapped


async def _refuse(scope: dict[str, Any], send: Any, status: int, why: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": why})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _with_policy(app: Any) -> Any:
    """An ASGI application whose answers carry the policy."""

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, sending)

    return wrapped
