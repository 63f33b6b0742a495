"""Who may open the page."""

import asyncio

import pytest

from hybridgen.play.serving import _for_this_machine


async def _inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def asked(host, named, kind="http"):
    """What is sent to one who asks a page at a host by a name."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(b"host", named)]}
    asyncio.run(_for_this_machine(_inner, host)(scope, None, send))
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
