"""A stand-in for the Hub: notes what is sent there, and refuses where it is told to."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError

NOBODY = "http://127.0.0.1:9"
"""Where no Hub answers."""


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client of the Hub asks where nobody answers."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # which the tests set elsewhere
    at_once = SimpleNamespace(sleep=lambda seconds: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)  # it tries again, after longer and longer waits
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOBODY)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", NOBODY)


def refusal(status: int = 403, said: str = "") -> HfHubHTTPError:
    """What the client makes of an answer such as 403 or 409. said: the Hub's own reason."""
    response: Any = SimpleNamespace(headers={}, request=None, status_code=status)
    return HfHubHTTPError("no", response=response, server_message=said)


class FakeHub:
    """As `huggingface_hub.HfApi`, for models. `calls` are the token, the repository and each file with its content."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refuses = False
        self.there: list[str] = []
        """Files of a repository that is there already."""
        self.breaks: Exception | None = None
        """What a commit ends with."""

    def __call__(self, token: str) -> FakeHub:
        """In place of the class: every client is this one."""
        self.calls.append(("token", token))
        return self

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.HfApi", self)

    def whoami(self) -> dict[str, str]:
        return {"name": "ada"}

    def create_repo(self, repo: str, exist_ok: bool) -> None:
        assert exist_ok
        if self.refuses:
            raise refusal()
        self.calls.append(("repo", repo))

    def list_repo_files(self, repo: str) -> list[str]:
        return self.there

    def create_commit(self, repo: str, operations: list[Any], commit_message: str) -> None:
        if self.breaks:
            raise self.breaks
        for one in operations:
            content = one.path_or_fileobj
            self.calls.append((one.path_in_repo, content if isinstance(content, bytes) else Path(content).read_bytes()))
