"""Action detection on low-resolution thermal recordings: what more than one stage, or a notebook, needs."""


class InputError(ValueError):
    """Bad input. The message is one sentence with file, record, value and remedy; a stage prints it and exits with 2."""
