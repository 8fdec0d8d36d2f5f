"""The `circle_rope` block as options of a command give it: as JSON, as a file of it, or key by key."""

import json
from pathlib import Path

# Options that give one key each, and the names that the key has in a block.
KEYS = {"age_mode": ("AGE_mode",), "radius": ("radius", "circle_r"), "alpha": ("alpha",)}


def read_block(circle_rope: str | None = None, separator: str = "-", **given: str | None) -> dict:
    """The block that the options give together; its values are not checked here.

    Args:
        circle_rope: a JSON object, or a file that holds one.
        separator: between the words of the command's options, for messages.
        given: of `KEYS`, each as JSON or as a plain word.

    Raises:
        ValueError: no JSON object, or a key that is given twice in two ways.
    """
    whole = f"--circle{separator}rope"
    block = {} if circle_rope is None else read_object(f"{whole} {circle_rope}", _text(whole, circle_rope))
    for option, text in given.items():
        if text is None:
            continue
        name, keys = "--" + option.replace("_", separator), KEYS[option]
        value = _read_value(name, text)
        for key in keys:
            if block.get(key, value) != value:
                raise ValueError(f"{whole} says {key} {block[key]!r} and {name} {value!r}: give one of them.")
        block.setdefault(next((key for key in keys if key in block), keys[0]), value)
    return block


def read_object(name: str, value: str | dict) -> dict:
    """A JSON object, read from its text where it is not one yet; `name` is for messages.

    Raises:
        ValueError: something else, or an object that gives a key twice.
    """
    try:
        value = json.loads(value, object_pairs_hook=_refuse_twice) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON ({error}): give a JSON object.") from None
    if not isinstance(value, dict):
        raise ValueError(f'{name} holds no JSON object: give one, such as {{"radius": 10}}.')
    return value


def _text(name, given):
    if given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ValueError(
            f"{name} {given} is neither a JSON object nor a file that can be read: give one of them."
        ) from None


def _read_value(name, text):
    try:
        return json.loads(text)
    except ValueError:
        if text.startswith("["):
            raise ValueError(f"{name} {text} is not a valid JSON list: give one.") from None
        return text


def _refuse_twice(pairs):
    """A JSON object; json itself would take the last of two values for one key."""
    for key, value in pairs:
        if any(other == key and said != value for other, said in pairs):
            raise ValueError(f"it gives {key} twice")
    return dict(pairs)
