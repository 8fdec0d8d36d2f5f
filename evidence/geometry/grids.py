"""Merged grids as they are written, and why one token is not enough."""


def parse_grid(text: str) -> tuple[int, int]:
    """Rows and columns of a grid that is written as 16x16.

    Raises:
        ValueError: anything else, or a grid of one token.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise ValueError(f"--grids {text} is not a grid: give rows x columns, such as 16x16.")
    grid = int(sides[0]), int(sides[1])
    check_tokens(grid[0] * grid[1])
    return grid


def check_tokens(count: int) -> None:
    """Raises ValueError unless an image has at least two tokens."""
    if count < 2:
        raise ValueError(
            "a grid of one token has no logit spread, which is a standard deviation over image tokens: give a grid "
            "of at least two tokens, such as 2x2."
        )
