"""Counts the moments of a process's writes below a folder, and kills it or fills its disk at a chosen one.

A moment lies behind the opening of a file, in the middle of each write, around a rename and a sync, and in the middle
of a file that torch or safetensors writes. Install it in a process that ends soon: nothing is put back.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sdsdemo.models import delta

Act = Callable[[str], None]


def die(moment: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_is_full(moment: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Writes:
    """The moments of this process's writes below a folder; from number `at` on, each calls `act`."""

    def __init__(self, below: Path, at: int = 0, act: Act = die) -> None:
        self.below, self.at, self.act = os.path.abspath(below), at, act
        self.names: list[str] = []
        self._open, self._torch, self._safetensors = open, torch.save, delta.save_file

    def install(self) -> None:
        """Puts itself between this process and its disk."""
        for name in ("replace", "rename", "fsync", "mkdir"):
            setattr(os, name, self._around(name, getattr(os, name)))
        for module, name, ours in (
            (builtins, "open", self._opened),
            (io, "open", self._opened),
            (torch, "save", self._torch_save),
            (delta, "save_file", self._safetensors_save),
        ):
            setattr(module, name, ours)

    def moment(self, name: str) -> None:
        """One more moment has come."""
        self.names.append(name)
        if self.at and len(self.names) >= self.at:
            self.act(name)

    def _is_below(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(os.fspath(path)).startswith(self.below)

    def _around(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            counts = name == "fsync" or self._is_below(first)
            if counts:
                self.moment(f"before {name}")
            done = really(first, *rest, **options)
            if counts and self.act is die:
                self.moment(f"after {name}")
            return done

        return call

    def _opened(self, file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        found = self._open(file, mode, *rest, **options)
        if not set(mode) & set("wax+") or not self._is_below(file):
            return found
        self.moment("open")
        return _Torn(found, self.moment) if set(mode) & set("wax") else found

    def _torch_save(self, state: Any, path: Any, *rest: Any, **options: Any) -> None:
        self._torch(state, path, *rest, **options)
        try:
            self._half(path, "torch.save")
        except OSError as error:  # what torch says of a full disk
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598") from error

    def _safetensors_save(self, tensors: Any, path: Any, *rest: Any, **options: Any) -> None:
        self._safetensors(tensors, path, *rest, **options)
        try:
            self._half(path, "save_file")
        except OSError as error:  # what safetensors says of it
            said = "Error while serializing: I/O error: No space left on device (os error 28)"
            raise SafetensorError(said) from error

    def _half(self, path: Any, name: str) -> None:
        """The file is half written for a moment."""
        if self._is_below(path):
            with self._open(path, "rb") as file:
                content = file.read()
            os.truncate(path, len(content) // 2)
            self.moment(name)
            with self._open(path, "wb") as file:
                file.write(content)


class _Torn:
    """A file whose writes come in two halves, with a moment between them."""

    def __init__(self, file: Any, moment: Callable[[str], None]) -> None:
        self._file, self._moment = file, moment

    def write(self, content: Any) -> int:
        if not isinstance(content, str):
            content = bytes(content)
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._moment("write")
        self._file.write(content[half:])
        return len(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Torn:
        self._file.__enter__()
        return self

    def __exit__(self, *rest: Any) -> None:
        self._file.__exit__(*rest)

    def __iter__(self) -> Any:
        return iter(self._file)
