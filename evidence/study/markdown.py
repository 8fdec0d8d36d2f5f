"""Markdown tables."""


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of texts; nothing where no cell but the first of each row has one."""
    if not any(any(row[1:]) for row in rows):
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
