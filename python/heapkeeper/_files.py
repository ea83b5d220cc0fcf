"""Files that are replaced."""

import errno
import os
import stat


def make_room(path):
    """Remove the file at `path`, if there is one, so that another can be made. Raises OSError.

    A link goes, and what it leads to stays. A device or a pipe is refused: root would lose /dev/null.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EEXIST, "is no regular file", path)
    os.unlink(path)
