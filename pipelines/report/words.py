"""Numbers and names in words."""

from collections.abc import Iterable
from math import floor

TEXT_LIMIT = 160
"""Characters of a name or a message that are shown; what is longer loses its middle."""


def printed(text: str, limit: int = TEXT_LIMIT) -> str:
    r"""Return text of unknown origin fit to be read: nothing invisible, nothing that turns the line, not too long.

    >>> printed("a\u202egpj.exe")
    'a\\u202egpj.exe'
    """
    kept = text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"
    if kept.isprintable():
        return kept
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in kept)


def percent(share: float) -> str:
    """Return a share 0..1 in words; only all is 100 %, and only nothing is 0 %.

    >>> percent(0.571), percent(0.001), percent(0.999), percent(1)
    ('57\xa0%', '<1\xa0%', '>99\xa0%', '100\xa0%')
    """
    if 0 < share < 0.01:
        return "<1\xa0%"
    if 0.99 < share < 1:
        return ">99\xa0%"
    return f"{share:.0%}".replace("%", "\xa0%")


def decimal(value: float) -> str:
    """Return a number with as many digits as one can use; what is under 1 never looks like 1.

    >>> decimal(0.8694), decimal(12.34), decimal(1234.5), decimal(0.9999)
    ('0.869', '12.3', '1,234', '0.999')
    """
    if 0 <= value < 1:
        return f"{min(value, 0.999):.3f}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def cut(confidence: float | None) -> str:
    """Return a confidence, cut and not rounded: 1.00 would say that a person confirmed the label.

    >>> cut(0.9987), cut(0.8999999)  # the latter is .9 in float32
    ('0.99', '0.90')
    """
    if confidence is None:
        return "–"
    return f"{min(floor(confidence * 100 + 1e-4) / 100, 0.99 if confidence < 1 else 1.0):.2f}"


def counted(number: int, what: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "face"), counted(1200, "face")
    ('1 face', '1,200 faces')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(texts: Iterable[str]) -> str:
    """Return texts in a row.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def ratio(part: float, whole: float) -> float:
    """Return a part as a share of the whole; nothing is no share of nothing."""
    return part / whole if whole else 0.0


def with_share(count: int, of: int) -> str:
    """Return a count with its share."""
    return f"{count:,} ({percent(ratio(count, of))})"
