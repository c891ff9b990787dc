"""Errors that a person can act on. Each text says what was expected, what came, and what to do."""


class UsageError(Exception):
    """The command was misused: exit code 2."""


class RunError(Exception):
    """The run could not go on: exit code 1. What was committed stays as it is."""


class ItemError(Exception):
    """One item failed; the run goes on and the item becomes a row of `failures`.

    `error` is a short stable name ("truncated", "too_large", "not_a_picture"), the text is one line for a person.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.error = error
