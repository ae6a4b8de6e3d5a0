"""Benchmark files in JSON: a list or an object of cases, each validated against a shape. Knows no benchmark."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdsdemo.captions.cleaning import is_blank
from sdsdemo.data.files.bounded import read_table
from sdsdemo.data.files.image_files import ImageFiles, Note
from sdsdemo.data.files.pointers import check_file
from sdsdemo.data.files.quoting import is_whole, listed, shown
from sdsdemo.errors import UserError
from sdsdemo.runtime.files import from_json
from sdsdemo.runtime.shapes import shaped

KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


def json_of(path: Path, wanted: str) -> list[Any] | dict[str, Any]:
    """The list or object in a file. Raises `UserError` if the file is not JSON, or JSON of another shape."""
    check_file(path)
    try:
        content = from_json(read_table(path, path.name).removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: check the file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 text: save it again as UTF-8.") from error
    except ValueError as error:
        raise UserError(
            f"{path.name} is not JSON ({shown(error)}): copy it again from where it is published."
        ) from error
    try:
        found: list[Any] | dict[str, Any] = shaped(content, list[Any] | dict[str, Any])
        return found
    except ValueError as error:
        raise _other(path, content, wanted) from error


def cases_of(
    path: Path, shape: Any, wanted: str, content: list[Any] | dict[str, Any] | None = None
) -> list[tuple[str, Any]]:
    """(number or key, case) of each case of a file that holds a list or an object, in its order.

    shape: of one case; wanted: the same in words. content: of the file, if `json_of` has read it already.
    Raises `UserError` that says what the file holds instead, or which case lacks what.
    """
    content = json_of(path, wanted) if content is None else content
    cases = [(str(key), case) for key, case in (content.items() if isinstance(content, dict) else enumerate(content))]
    if not cases:
        raise UserError(f"{path.name} is empty: copy it again from where it is published.")
    for number, case in cases:
        try:
            shaped(case, shape)
        except ValueError as error:
            raise _misfit(path, number, case, content, shape, str(error), wanted) from error
    return cases


def texts(case: Mapping[str, Any], keys: Sequence[str], path: Path, number: str) -> tuple[str, ...]:
    """The texts of a case. Raises `UserError` if one is empty."""
    empty = [key for key in keys if is_blank(case[key]) or not is_whole(case[key])]
    if empty:
        raise UserError(
            f"Case {shown(number)} of {path.name} has an empty {' and an empty '.join(empty)}: remove the case."
        )
    return tuple(case[key] for key in keys)


def note_unknown_keys(
    path: Path, cases: Sequence[tuple[str, Mapping[str, Any]]], known: Collection[str], note: Note
) -> None:
    """Reports keys of a file's cases that the published file does not have."""
    unknown = sorted({key for _, case in cases for key in case} - set(known))
    if unknown:
        note(f"{path.name} has keys that the published file does not have: {listed(unknown)}.")


def pictures_in(folder: Path, *names: str) -> ImageFiles:
    """The pictures in the existing ones of these folders, or in zip files of those names. Raises `UserError`."""
    roots = [folder / name for name in names if (folder / name).is_dir()]
    archives = [path for name in names if (path := folder / f"{name}.zip").is_file()]
    if not roots and not archives:
        raise UserError(f"The images are missing: put them in a folder {' or '.join(names[:2])} in '{folder.name}'.")
    return ImageFiles(roots or [folder], [] if roots else archives)


def described(value: Any) -> str:
    """What JSON data holds, in a few words, one level deep."""
    if isinstance(value, list) and value:
        return f"a list of {len(value):,}, the first {_brief(value[0])}"
    if isinstance(value, dict) and value:
        key, first = next(iter(value.items()))
        return f"an object of {len(value):,}, the first, '{shown(key)}', {_brief(first)}"
    return _brief(value)


def _brief(value: Any) -> str:
    if isinstance(value, dict) and value:
        return f"an object with {listed(value)}"
    if isinstance(value, list) and value:
        return f"a list of {len(value)} ({', '.join(KINDS.get(type(part), 'null') for part in value[:4])})"
    if isinstance(value, list | dict):
        return f"{KINDS[type(value)]} with nothing in it"
    return KINDS.get(type(value), "null")


def _other(path: Path, content: Any, wanted: str) -> UserError:
    return UserError(f"{path.name} has a different shape: it holds {described(content)}; {wanted} is expected.")


def _misfit(path: Path, number: str, case: Any, content: Any, shape: Any, fault: str, wanted: str) -> UserError:
    """The error for a file of another kind, or for one case that differs from the others."""
    keys = getattr(shape, "__required_keys__", None)
    first = next(iter(content.values() if isinstance(content, dict) else content))
    if keys is None or not isinstance(first, dict) or not keys & set(first):
        return _other(path, content, wanted)
    if not isinstance(case, dict):
        return UserError(f"Case {shown(number)} of {path.name} is {_brief(case)}; {wanted} is expected.")
    missing = sorted(key for key in keys if case.get(key) is None)
    if missing:
        has = listed(case)
        return UserError(
            f"Case {shown(number)} of {path.name} has no {' and no '.join(missing)}. It has {has or 'nothing'}."
        )
    return UserError(f"Case {shown(number)} of {path.name} is malformed ({shown(fault)}); {wanted} is expected.")
