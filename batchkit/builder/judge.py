"""Request lines judged one after the other.

Good lines are cleared by their likeness to lines already judged; all others are parsed strictly, judged by the rules,
and explained by the table of findings.
"""

from __future__ import annotations

import re
from typing import Any

from batchkit.builder.findings import Blame, Findings
from batchkit.builder.likeness import Likeness, OnLine
from batchkit.builder.rules import Rules
from batchkit.builder.strict import BOM, Flaw, parse, repeated_keys


class Judge:
    """What is known of the lines so far."""

    def __init__(self, findings: Findings, rules: Rules, on_line: OnLine | None = None) -> None:
        self.findings, self.rules, self._likeness, self._on_line = findings, rules, Likeness(), on_line
        self.blank = 0
        self.repeated: list[tuple[str, int]] = []
        """Ids that came again, and the place of each among the findings kept."""

    def lines(self, lines: list[bytes], number: int, offset: int) -> None:
        """Judge lines of a file; so many lines and bytes stand before them."""
        ids = self.rules.ids
        if (names := self._likeness.names_of(lines)) and ids.add_all(names):
            if self._on_line is not None:
                for line in lines:
                    self._on_line(line)
            return
        for number, line in enumerate(lines, number + 1):  # noqa: B020
            name = self._likeness.name_of(line)
            if name is None or not ids.add_all([name]):
                self._line(line, number, offset)
            elif self._on_line is not None:
                self._on_line(line)
            offset += len(line)

    def _line(self, raw: bytes, number: int, offset: int) -> None:
        """Judge one line the slow way."""
        findings, before = self.findings, self.findings.total
        skipped = len(BOM) if number == 1 and raw.startswith(BOM) else 0

        def blame(rule: str, at: int = 0, **facts: Any) -> None:
            custom_id = facts.pop("custom_id", None)
            if custom_id is not None and not findings.full:
                self.repeated.append((custom_id, len(findings.kept)))
            findings.add(rule, line=number, byte=offset + at, **facts)

        if skipped:
            blame("bom")
        content = raw[skipped:]
        if raw.endswith(b"\r\n"):
            blame("crlf", at=len(raw) - 2)
        if not content.strip(b" \t\r\n"):
            blame("blank_line")
            self.blank += 1
            return
        document = _parsed(content, number, skipped, blame)
        if document is None:
            return
        self.rules.judge(document, blame)
        if findings.total == before and raw.endswith(b"\n"):
            self._likeness.learn(raw, document)
        if self._on_line is not None:
            self._on_line(content)


_ARRAY = re.compile(rb"\s*\[\s*(\{|$)")
"""How a file of one JSON array begins, be it on one line or on many."""


def _parsed(content: bytes, number: int, skipped: int, blame: Blame) -> dict[str, Any] | None:
    try:
        document = parse(content)
        repeated = repeated_keys(content, document)
    except Flaw as flaw:
        if number == 1 and _ARRAY.match(content):
            blame("array_file")
        else:
            blame(flaw.rule, at=flaw.at + skipped, **flaw.facts)
        return None
    for where, key in repeated:
        blame("key_twice", where=where, key=key)
    return document
