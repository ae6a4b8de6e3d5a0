"""What a disk refuses, in a sentence that says what to do. Knows nothing of what was to be written."""

from __future__ import annotations

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk says that is full."""
NO_PLACE = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
"""What it says of a name that cannot be used. Networks say some of these too, but of no name."""


def disk_words(error: BaseException) -> str:
    """What to do about an error of a disk; empty for any other error."""
    if not isinstance(error, OSError):
        return ""
    if error.errno in NO_ROOM:
        place = "" if error.filename is None else f" to '{error.filename}'"
        return f"Nothing more could be written{place} ({error.strerror}): free disk space, then run the command again."
    if error.errno == errno.ENAMETOOLONG:
        return f"No file or folder can have a name as long as '{str(error.filename)[:40]}…': check the name."
    if error.errno == errno.EROFS or (error.errno in NO_PLACE and error.filename is not None):
        place = "A folder" if error.filename is None else f"'{error.filename}'"
        return (
            f"{place} cannot be read or written ({error.strerror}): name another folder, or change who may "
            "use this one."
        )
    return ""
