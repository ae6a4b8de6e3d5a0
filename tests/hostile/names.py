"""A sound picture under hostile names."""

from __future__ import annotations

from tests.hostile.files import File, png

NAMES: dict[str, bytes] = {
    "nothing": b"",
    "a blank": b" ",
    "a dot": b".",
    "two dots": b"..",
    "parents": b"../../../../tmp/hostile.png",
    "parents of Windows": b"..\\..\\..\\hostile.png",
    "parents, encoded": b"%2e%2e%2f%2e%2e%2fhostile.png",
    "parents, overlong UTF-8": b"\xc0\xae\xc0\xae\xc0\xafhostile.png",
    "a whole path": b"/etc/cron.d/hostile.png",
    "a drive": b"C:\\Windows\\hostile.png",
    "a share": b"\\\\host\\share\\hostile.png",
    "a file of the shell": b".bashrc",
    "a file of a server": b".htaccess",
    "a device": b"con.png",
    "a home": b"~",
    "a command": b"$(touch hostile).png",
    "an option": b"-rf.png",
    "a page": b"<script>hostile()<.png",
    "quotes": b"a%22b'c.png",
    "a letter without end": b"a\0.png",
    "a bell": b"a\x07\x1b[31m.png",
    "right to left": "a\u202egnp.exe.png".encode(),
    "joined figures": "👩\u200d👩\u200d👧.png".encode(),
    "many marks": ("z" + "\u0301" * 200 + ".png").encode(),
    "no Unicode": b"\xff\xfe\xed\xa0\x80.png",
    "255 letters": b"a" * 251 + b".png",
    "5,000 letters": b"a" * 5_000 + b".png",
    "5,000 wide letters": "愛".encode() * 5_000 + b".png",
    "an end of 500 letters": b"a." + b"b" * 500,
    "only an end": b".png",
    "many dots": b"a" + b"." * 200 + b"png",
    "another kind": b"a.svg",
    "a program": b"a.png.exe",
    "a line end": b"a\nb.png",
    "a header": b'a.png"\r\nX-Hostile: 1\r\nX: "',
    "an address": b"http://127.0.0.1/a.png",
}


def names() -> list[File]:
    """All of them."""
    return [File(name=f"called {name}", filename=filename, make=png) for name, filename in NAMES.items()]
