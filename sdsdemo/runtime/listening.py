"""Whether a page can listen at an address, asked before it starts; each reason why not is a sentence. Starts nothing.

Gradio calls every reason a taken port, and asks its own server over HTTP as it starts: through a proxy, if one is set.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from sdsdemo.errors import UserError

HERE = ("localhost", "127.0.0.1", "::1")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
MOST = 65_535
TAKEN = "Port {port} is already in use. Stop what runs there, or add --port {other}."
NO_RIGHT = "You may not listen on port {port}{below}: choose another one, such as --port 8000."
NO_ADDRESS = (
    "This machine has no IPv4 address called '{host}': use --host 127.0.0.1 for yourself only, or --host 0.0.0.0 for "
    "your network."
)
NO_PAGE = "The page cannot listen on '{host}', port {port} ({why}): use another --host or --port."
NOT_ANSWERED = (
    "The page started, and did not get through to itself at '{host}': a proxy may be in the way. Set "
    "NO_PROXY=localhost,127.0.0.1,{host} and start it again."
)


@contextmanager
def listening_at(host: str, port: int) -> Iterator[None]:
    """In here Gradio starts its server. Raises `UserError` where it cannot."""
    check_address(host, port)
    pass_by_proxies(host, os.environ)
    try:
        yield
    except OSError as error:
        raise UserError(_why(error, host, port)) from error
    except Exception as error:  # Gradio's own are ValueError and plain Exception, and httpx's come through
        if not _is_unanswered(error):
            raise
        raise UserError(NOT_ANSWERED.format(host=host)) from error


def check_address(host: str, port: int) -> None:
    """Raises `UserError` where nothing can listen there."""
    try:
        place = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][-1]
        with socket.socket() as one:
            if os.name != "nt":  # where it would take the port from whoever has it
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(place)
    except (OSError, UnicodeError) as error:
        raise UserError(_why(error, host, port)) from error


def pass_by_proxies(host: str, environment: MutableMapping[str, str]) -> None:
    """Where variables name a proxy, requests to this machine do not go through it.

    Only then: NO_PROXY alone would hide the proxy of the system's settings.
    """
    if not any(environment.get(name) or environment.get(name.lower()) for name in PROXIES):
        return
    named = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    whole = ",".join(dict.fromkeys([*filter(None, named.split(",")), *HERE, host]))
    environment.update({"NO_PROXY": whole, "no_proxy": whole})


def _why(error: Exception, host: str, port: int) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror | UnicodeError) or number == errno.EADDRNOTAVAIL:
        return NO_ADDRESS.format(host=host)
    if number in (errno.EACCES, errno.EPERM):
        return NO_RIGHT.format(port=port, below=", as it is below 1024" if port < 1024 else "")
    if number == errno.EADDRINUSE or number is None:  # Gradio gives its own error no number
        return TAKEN.format(port=port, other=port + 1 if port < MOST else port - 1)
    return NO_PAGE.format(host=host, port=port, why=getattr(error, "strerror", error))


def _is_unanswered(error: Exception) -> bool:
    """Whether the server did not get through to itself."""
    return type(error).__module__.startswith("httpx") or "localhost" in str(error)
