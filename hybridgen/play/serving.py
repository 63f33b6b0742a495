"""The server of the page. It fetches nothing, and lets the page fetch nothing from anywhere else."""

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
    """
    import uvicorn
    from fastapi import FastAPI
    from gradio import mount_gradio_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
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
        _with_policy(app), log_level="critical", access_log=False, timeout_graceful_shutdown=_PATIENCE
    )
    Server(config).run(sockets=[bound])


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
