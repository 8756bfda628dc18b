"""Words for messages."""


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 file`, `1,200 files`, `2 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
