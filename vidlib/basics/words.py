"""Words of sentences to people: the names near to a wrong one, and the first of many."""

import difflib
from collections.abc import Iterable, Sequence


def nearest(name: object, known: Iterable[object], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most ``most`` of ``known`` that are close to ``name``, the closest first."""
    return difflib.get_close_matches(str(name), [str(one) for one in known], n=most, cutoff=cutoff)


def closest(name: object, known: Iterable[object]) -> str:
    """`` (did you mean 'shot'?)`` where one of ``known`` is close to ``name``, else an empty string."""
    near = nearest(name, known)
    return f" (did you mean '{near[0]}'?)" if near else ""


def suggest(name: object, known: Iterable[object], otherwise: str = "", most: int = 1, cutoff: float = 0.6) -> str:
    """``did you mean 'shot'?``, where nothing is close ``otherwise``, by default the ``known`` names."""
    known = [*known]
    near = nearest(name, known, most, cutoff)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return otherwise or f"known are {', '.join(map(str, known)) or 'none'}."


def known_name(value: str, known: Sequence[str], what: str) -> str:
    """``value`` where it is one of ``known``, else ValueError naming the parameter, the names and the nearest one."""
    if value not in known:
        raise ValueError(f"{what}: '{value}' is not one of {', '.join(known)}{closest(value, known)}")
    return value


def printable(text: str) -> str:
    """``text`` with what nothing can show written out: bytes of a file's name that are not UTF-8, as ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode()


def few(names: Iterable[object], most: int = 5, between: str = ", ") -> str:
    """The first of ``names``, and how many more there are: ``a, b and 3 more``."""
    names = [printable(str(name)) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def first_line(cause: Exception) -> str:
    """What an error says, at most a line of 160 letters; its kind where it says nothing."""
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:160]


def sentence(template: str, name: str) -> str:
    """``name`` put where ``template`` has {}; any other brace is a letter like the rest."""
    return template.replace("{}", name)
