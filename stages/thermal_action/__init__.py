"""Action detection on low-resolution thermal recordings: what more than one stage, or a notebook, needs."""


import reprlib

SHORT = reprlib.Repr()
SHORT.maxstring, SHORT.maxother = 80, 80


class InputError(ValueError):
    """Bad input. The message is one sentence with file, record, value and remedy; a stage prints it and exits with 2."""


def shown(value: object) -> str:
    """A value as part of that sentence: on one line and short, however long or deep somebody made it."""
    return SHORT.repr(value)
