"""Markdown tables."""


def table(header: list, rows: list[list]) -> str:
    """A table of what is shown as text; nothing where no cell but the first of each row has one."""
    if not any(any(row[1:]) for row in rows):
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
