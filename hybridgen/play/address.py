"""Where the page is: a socket that is bound before anything slow is done."""

import errno
import socket


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: name or address of this machine.
        port: 0 takes any that is free.

    Raises:
        ValueError: if the port is taken or out of range, or the host is none of this machine's.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"--port is {port}: give 1 to 65535, or 0 for any that is free")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise ValueError(f"--host: there is no host {host!r} ({error.strerror}): give a name or an address") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"--port: {port} is taken on {host}: give another, such as --port {port % 65535 + 1}, or 0 for any"
        elif error.errno == errno.EADDRNOTAVAIL:
            what = f"--host: {host} is no address of this machine: give 127.0.0.1, or 0.0.0.0 for all of its addresses"
        else:
            what = f"--port: {port} on {host} cannot be used ({error.strerror}): give another, such as --port 7860"
        raise ValueError(what) from None


def url_of(bound: socket.socket, host: str) -> str:
    """The address to type into a browser."""
    port = bound.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
