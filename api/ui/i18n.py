"""The page's words: one catalogue a language, English and Portuguese."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

LANGUAGES: Final = {"en": "English", "pt": "Português"}
_FOR_PROGRAMS: Final = re.compile(r"(?<=\.) GET /[^.]*\.$")
_FOLDER = Path(__file__).parent / "locales"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Key to text of one of `LANGUAGES`."""
    texts: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts


def choose_language(asked: str | None, accept_language: str) -> str:
    """The language that was chosen, else the first known one of an Accept-Language header, else English."""
    if asked in LANGUAGES:
        return str(asked)
    for part in accept_language.split(",")[:20]:
        code = part.split(";")[0].strip().lower().split("-")[0]
        if code in LANGUAGES:
            return code
    return "en"


@cache
def _details(language: str) -> tuple[list[tuple[re.Pattern[str], str]], Mapping[str, str]]:
    """How problems are told in a language: by their English text, which may hold values, and by their type."""
    found = json.loads((_FOLDER / f"problems.{language}.json").read_text(encoding="utf-8"))
    patterns = []
    for english, text in found["by_detail"].items():
        parts = re.split(r"\{(\w+)\}", english)
        pattern = "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        patterns.append((re.compile(pattern, re.DOTALL), text))
    return patterns, found["by_type"]


def told(language: str, problem: Mapping[str, Any]) -> str:
    """What is wrong and what to do, of a problem that the service tells in English; what programs may ask left out."""
    if language == "en":
        return _FOR_PROGRAMS.sub("", str(problem["detail"]))
    patterns, by_type = _details(language)
    for pattern, text in patterns:
        match = pattern.fullmatch(problem["detail"])
        if match:
            return text.format(**match.groupdict())
    parameters = ", ".join(dict.fromkeys(one["parameter"] for one in problem.get("errors") or ()))
    kind = problem["type"].rpartition(":")[2]
    return by_type.get(kind, by_type["unexpected"]).format(parameters=parameters, id=problem.get("request_id", ""))


@dataclass(frozen=True)
class Words:
    """Texts, numbers and times as one language writes them."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key`. With `n=1`, the text of `key.one` where there is one."""
        texts = catalogue(self.language)
        if values.get("n") == 1 and f"{key}.one" in texts:
            key = f"{key}.one"
        shown = {name: self.count(value) if isinstance(value, int) else value for name, value in values.items()}
        return texts[key].format(**shown)

    def has(self, key: str) -> bool:
        return key in catalogue(self.language)

    def term(self, group: str, value: str | None) -> str:
        """The word for a stored value (`status`, `reason`, `cause`, ...); the value itself where there is none."""
        if value is None:
            return "-"
        key = f"{group}.{value}"
        return self(key) if self.has(key) else value

    def number(self, value: float | None, digits: int = 1) -> str:
        if value is None:
            return "-"
        return self._written(f"{value:,.{digits}f}")

    def plain(self, value: float) -> str:
        """A number with as many digits as it has: 25, 12.5."""
        return self._written(f"{value:g}")

    def _written(self, text: str) -> str:
        return text if self.language == "en" else text.translate(str.maketrans(",.", ".,"))

    def count(self, value: int) -> str:
        return self.number(value, 0)

    def moment(self, value: datetime) -> str:
        """Day and time of day, UTC."""
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S" if self.language == "en" else "%d/%m/%Y %H:%M:%S")

    def length(self, seconds: float) -> str:
        """How long something took: seconds with a tenth, from a minute on hours, minutes and seconds."""
        return f"{self.number(seconds)} s" if round(seconds, 1) < 60 else self.duration(seconds)

    def duration(self, seconds: float, *, fraction: bool = False) -> str:
        """Hours, minutes and seconds since a recording's start."""
        tenths = round(seconds * 10)
        whole, tenth = divmod(tenths, 10) if fraction else (round(seconds), 0)
        text = f"{whole // 3600:d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        return self._written(f"{text}.{tenth}") if fraction else text
