"""The one error a user meets: a sentence that names what is wrong and what would be right."""

from vidlib.basics.words import printable


class UserError(ValueError):
    """Something the user gave cannot be used; the message is one sentence that names it and says what would be right.

    Notebooks show only that sentence: IPython asks an exception for its own traceback through ``_render_traceback_``.
    It can be printed, whatever bytes a file's name in it has.
    """

    def __init__(self, *words: object) -> None:
        super().__init__(*(printable(word) if isinstance(word, str) else word for word in words))

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
