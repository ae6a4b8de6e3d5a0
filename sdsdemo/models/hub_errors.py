"""Why the Hugging Face Hub gave nothing, from what its client raises and what that stands on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sdsdemo.runtime.disk_errors import disk_words

Why = Literal["access", "disk", "network", "other"]
REFUSED = (401, 403)
"""What the Hub answers to whoever has no token, an expired one, or one without the right."""
NOT_FOUND = 404


def hub_errors() -> tuple[type[Exception], ...]:
    """Everything that the Hub's client raises where the network, the Hub or the disk fails.

    A lost connection is an error of its HTTP library, and one of Xet, its way of large files, is a RuntimeError.
    """
    return (OSError, ValueError, *_http_errors(), RuntimeError)


def why(error: BaseException) -> Why:
    """What made a download fail: no access, the disk, or the network."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    chain, answers = list(_chain(error)), _answers(error)
    if any(status in REFUSED for status in answers):
        return "access"
    if disk_error(error) is not None:
        return "disk"
    lost = (*_http_errors(), LocalEntryNotFoundError, ConnectionError, TimeoutError)
    return "network" if not answers and any(isinstance(one, lost) for one in chain) else "other"


def answer_of(error: BaseException) -> int | None:
    """The HTTP status with which the Hub answered; None if an error stands on no answer."""
    return next(iter(_answers(error)), None)


def disk_error(error: BaseException) -> OSError | None:
    """The error of a disk that another one stands on."""
    return next((one for one in _chain(error) if isinstance(one, OSError) and disk_words(one)), None)


def _http_errors() -> tuple[type[Exception], ...]:
    """What all errors of the client's HTTP library derive from; which library that is depends on its version."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


def _answers(error: BaseException) -> list[int]:
    found = (getattr(one, "response", None) for one in _chain(error))
    return [answer.status_code for answer in found if answer is not None]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
