"""Who may open the page."""

import asyncio

import pytest

from hybridgen.play.serving import _for_own_page, _for_this_machine


async def _inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def asked(host, named, kind="http", *, origin=None, path="/"):
    """What is sent to one who asks a page at a host by a name."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [(b"host", named)]}
    if origin is not None:
        scope["headers"].append((b"origin", origin))
    asyncio.run(_for_this_machine(_for_own_page(_inner), host)(scope, None, send))
    return sent[0].get("status") or sent[0]["type"]


@pytest.mark.parametrize("named", [b"127.0.0.1:7860", b"localhost", b"LOCALHOST:7860", b"[::1]:7860"])
def test_names_of_this_machine_open_the_page(named):
    assert asked("127.0.0.1", named) == 200


def test_a_name_from_elsewhere_that_points_here_does_not():
    assert asked("127.0.0.1", b"evil.example:7860") == 421
    assert asked("::1", b"evil.example") == 421
    assert asked("localhost", b"evil.example", "websocket") == "websocket.close"


def test_a_page_for_others_answers_to_any_name():
    assert asked("0.0.0.0", b"studio.example:7860") == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://localhost:7860", 200),
        (b"HTTPS://LOCALHOST:7860", 200),
        (b"http://localhost:9999", 403),
        (b"http://localhost", 403),
        (b"https://evil.example", 403),
        (b"null", 403),
        (b"", 403),
    ],
)
def test_another_page_sends_nothing(host, origin, status):
    assert asked(host, b"localhost:7860", origin=origin) == status
    assert asked(host, b"localhost:7860", origin=origin, path="/gradio_api/queue/join") == status
    closed = asked(host, b"localhost:7860", "websocket", origin=origin)
    assert closed == (200 if status == 200 else "websocket.close")


@pytest.mark.parametrize(
    "path", ["/gradio_api/upload", "/upload", "/gradio_api/upload/", "/gradio_api/process_recording"]
)
def test_it_takes_no_files(path):
    assert asked("127.0.0.1", b"localhost:7860", path=path) == 403
