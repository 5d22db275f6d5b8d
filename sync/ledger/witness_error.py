"""What a witness raises."""

from __future__ import annotations


class WitnessError(Exception):
    """A head could not be kept: why, and what to do. Neither holds a secret."""

    def __init__(self, message: str, todo: str) -> None:
        super().__init__(message)
        self.message = message
        self.todo = todo
