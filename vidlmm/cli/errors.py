"""An exception into one line that a person can act on."""

import traceback


def one_line(error: BaseException) -> str:
    """What went wrong, on one line.

    Errors that this package raises on purpose, and those of the file system, are told in their own
    words. Anything else is a fault of the program: its type is named, and how to see more.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*names, error.strerror])
    if _is_ours(error):
        return text or type(error).__name__
    return f"unexpected {type(error).__name__}: {text} (run again with --traceback to see where)"


def _is_ours(error: BaseException) -> bool:
    """Whether the exception's type, or the line that raised it, belongs to this package."""
    if type(error).__module__.split(".")[0] == "vidlmm":
        return True
    if not isinstance(error, ValueError | FileNotFoundError | FileExistsError | RuntimeError):
        return False  # a KeyError or TypeError is nobody's message to a user
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").split(".")[0] == "vidlmm"
