"""Every word that the Space shows, in English and Chinese: the pairs of `texts.json`."""

import json
from pathlib import Path

LANGUAGES = {"en": "English", "zh": "中文"}

_PAIRS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_GEOMETRIES, _SCHEDULES = _PAIRS.pop("geometries"), _PAIRS.pop("schedules")
TEXTS = {key: pair for part in _PAIRS.values() for key, pair in part.items()}


def say(key: str, lang: str) -> str:
    """The words of `key`, in `lang`, or in English when that is unknown."""
    return TEXTS[key][lang == "zh"]


def name_geometry(geometry: str, lang: str) -> str:
    """What a choice of geometry is called."""
    return _GEOMETRIES[geometry][lang == "zh"]


def say_schedule(geometry: str, lang: str) -> str:
    """Which layers a choice of geometry puts on the ring."""
    return _SCHEDULES[geometry][lang == "zh"]


def explain(error, lang: str) -> str:
    """The sentence of a `BadInput`."""
    return say(error.key, lang).format(**error.values)
