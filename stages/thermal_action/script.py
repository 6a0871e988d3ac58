"""How a script ends: with one sentence where its input, the disk or another run is in the way, and never half done."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from thermal_action import InputError
from thermal_action.files import lock

REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: "write to a disk that takes larger files",
    errno.EROFS: "make it writable",
    errno.EACCES: "give yourself the rights to it",
    errno.EPERM: "give yourself the rights to it",
}


def run(main: Callable[[], None], *, alone: bool = False) -> None:
    """Runs the `main` of a script. Bad input and a disk that refuses end it with one sentence and exit code 2, Ctrl-C with 130.

    alone: refuse, with such a sentence, while the same script is running in this folder.
    """
    name = Path(sys.argv[0]).name
    try:
        with one_at_a_time(name) if alone else nullcontext():
            main()
    except InputError as error:
        refuse(name, str(error))
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        refuse(name, f"{named(error)}: {os.strerror(error.errno)}: {REMEDIES[error.errno]}, then run it again")
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what is complete was kept", file=sys.stderr)
        sys.exit(130)


def refuse(name: str, sentence: str) -> None:
    print(f"{name}: {sentence}", file=sys.stderr)
    sys.exit(2)


def named(error: OSError) -> str:
    """The file that an error is about; HDF5 has it in its text only."""
    within = re.search(r"(?:filename|name) = '([^']+)'", str(error))
    return str(error.filename or (within[1] if within else f"the disk of {Path.cwd()}"))


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Holds the folder's lock of that name; the system lets it go however the process ends. Ranks share that of their first."""
    here = f"{name} in {Path.cwd()}"
    if int(os.environ.get("RANK", 0)) > 0 or os.environ.get("THERMAL_ALONE") == here:
        yield
        return
    refusal = f"another {here} is running: wait for its end, or run this one in a clone of its own"
    with lock(Path(".scratch", f"{name}.lock"), refusal):
        os.environ["THERMAL_ALONE"] = here  # the ranks that it starts are no others
        yield
