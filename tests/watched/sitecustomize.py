"""Loaded by a Python that has this folder on its path: writes down every address that the process connects to."""

import os
import sys


def _watch(event: str, arguments: tuple) -> None:
    if event == "socket.connect":
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = arguments[0]
    else:
        return
    with open(os.environ["SDSDEMO_TEST_CONNECTIONS"], "a", encoding="utf-8") as file:
        file.write(f"{event} {address!r}\n")


sys.addaudithook(_watch)
