"""The words of the questions and answers, in English and Chinese; `wordings.txt` has the questions."""

import random
import re
from pathlib import Path


def _read(path: Path) -> dict[tuple[str, ...], list[str]]:
    """The lines of every section of a file, by the words of the section's head."""
    sections: dict[tuple[str, ...], list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = sections.setdefault(tuple(line[1:-1].split(", ")), [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return sections


LANGUAGES = {"en": 0.6, "zh": 0.4}  # and how often training asks in them
WORDINGS = _read(Path(__file__).with_name("wordings.txt"))
# The sections that are lists of words.
LISTS = ("noun", "adjective", "verb", "filler", "light")
WORDS = {key: " ".join(lines).split() for key, lines in WORDINGS.items() if key[0] in LISTS}

# Words for what is seen; the first is the one that answers have.
NAMES = {
    "en": {
        "anything": "shape|shape|thing|figure|object",
        "": "shape|one|thing|figure|object",
        "top left": "top left|top left|upper left|top left corner|top-left corner|upper left corner",
        "top middle": "top middle|top middle|top centre|middle of the top",
        "top right": "top right|top right|upper right|top right corner|top-right corner|upper right corner",
        "middle left": "middle left|middle left|centre left|left middle",
        "centre": "centre|centre|middle",
        "middle right": "middle right|middle right|centre right|right middle",
        "bottom left": "bottom left|bottom left|lower left|bottom left corner|bottom-left corner|lower left corner",
        "bottom middle": "bottom middle|bottom middle|bottom centre|middle of the bottom",
        "bottom right": "bottom right|bottom right|lower right|bottom right corner|bottom-right corner|"
        "lower right corner",
        "left": "left of|to the left of|on the left of|on the left side of",
        "right": "right of|to the right of|on the right of|on the right side of",
        "above": "above|over|on top of",
        "below": "below|under|underneath|beneath",
        "next": "next to|beside|right next to|adjacent to",
    },
    "zh": {
        "anything": "图形|形状|东西|物体",
        "": "图形|形状|东西|物体",
        "circle": "圆形|圆|圆圈",
        "square": "方形|方块|正方形",
        "triangle": "三角形|三角",
        "cross": "十字形|十字",
        "red": "红色|红",
        "green": "绿色|绿",
        "blue": "蓝色|蓝",
        "yellow": "黄色|黄",
        "purple": "紫色|紫",
        "black": "黑色|黑",
        "top left": "左上|左上角|左上方",
        "top middle": "上中|上面中间|上方中间",
        "top right": "右上|右上角|右上方",
        "middle left": "左中|左边中间|左侧中间",
        "centre": "中间|正中|中心|正中间",
        "middle right": "右中|右边中间|右侧中间",
        "bottom left": "左下|左下角|左下方",
        "bottom middle": "下中|下面中间|下方中间",
        "bottom right": "右下|右下角|右下方",
        "left": "左边|左侧|左面|左方",
        "right": "右边|右侧|右面|右方",
        "above": "上面|上方|上边",
        "below": "下面|下方|下边",
        "next": "旁边|边上",
    },
}

# What an English answer is in Chinese; besides these, the first of `NAMES`. Some kinds have their own yes and no.
UNKNOWN = "I know coloured shapes only. Try: Where is the red circle?"
ANSWERS = {UNKNOWN: "我只认识彩色图形。试试：红色圆形在哪里？"}
ANSWERS |= {
    "there is none": "没有",
    "nothing": "没有",
    "yes": "是",
    "no": "不是",
    ", ": "、",
    "a ": "",
    "the ": "",
    " ": "",
}
ANSWERS |= {"up": "上", "down": "下", "left": "左", "right": "右"}
ANSWERS_OF = {"is there": {"yes": "有", "no": "没有"}}


def name_in(word: str, language: str, rng: random.Random) -> str:
    """An English name in a language, in one of its forms."""
    return rng.choice(NAMES[language].get(word, word).split("|"))


def make_up(rng: random.Random, language: str = "en") -> str:
    """A word that the language does not have."""
    if language == "zh":
        return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(rng.randint(1, 2)))
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))


def any_of(words) -> str:
    """The pattern of any of these words, and of the longest where several begin alike."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_SEEN = {form for forms in NAMES["zh"].values() for form in forms.split("|")}
_KNOWN = re.compile(f"({any_of(_SEEN.union(WORDS['light', 'zh']))})")


def split(text: str, language: str) -> list[str]:
    """The words of a question; in Chinese those that mean something here, and what is between them."""
    return text.split() if language == "en" else list(filter(None, _KNOWN.split(text)))
