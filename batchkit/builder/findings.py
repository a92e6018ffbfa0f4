"""All that `check` can find, as data: a code, a severity, a sentence and a remedy for each rule.

Codes are the service's own where it has one (Azure guide, "Batch failure codes"); the others are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from shlex import quote
from typing import Any, NamedTuple

from batchkit.model import Problem
from batchkit.text import shortened

Blame = Callable[..., None]
"""Takes the name of a rule, the facts for its sentence, and perhaps `at`, the byte within the line."""


class Rule(NamedTuple):
    """`sentence` and `fix` have `{fact}` fields."""

    code: str
    severity: str
    sentence: str
    fix: str


_BUILD = "batchkit build ROWS -o LINES makes lines that pass"
_MEND = "batchkit check {path} --fix NEW does it"
_MODEL = "put the name of your Global-Batch deployment there"
_UNIQUE = "give every line its own; --custom-id names a unique column, without it rows are numbered"
_APART = "give these lines a file, and a job, of their own"
_ONE_A_LINE = "write one object a line: jq -c . {path} > NEW"

RULES = {
    # The file as a whole
    "table": Rule(
        "not_jsonl", "error", "this is a table, not request lines", "batchkit build {path} -o LINES makes lines"
    ),
    "array_file": Rule(
        "not_jsonl", "error", "the file is one JSON array, not one object a line", "jq -c '.[]' {path} > NEW"
    ),
    "utf16": Rule(
        "not_utf8", "error", "the file is {encoding}, not UTF-8", "iconv -f {encoding} -t UTF-8 {path} > NEW"
    ),
    "bom": Rule(
        "bom", "error", "the file begins with a byte order mark; the service then finds no deployment name", _MEND
    ),
    "empty_file": Rule("empty_file", "error", "the file has no request", _BUILD),
    "no_final_newline": Rule("no_final_newline", "warning", "the last line has no newline", _MEND),
    "too_many_tasks": Rule(
        "too_many_tasks", "error", "{lines} requests, a file may have {limit}", "batchkit submit splits it"
    ),
    "file_too_large": Rule(
        "file_too_large", "error", "{bytes} bytes, a file may have {limit}", "batchkit submit splits it"
    ),
    "token_limit_exceeded": Rule(
        "token_limit_exceeded",
        "error",
        "{tokens} tokens ({how}), the deployment may have {limit} enqueued",
        "batchkit submit splits it and waits for room; or ask for more quota",
    ),
    # The bytes of a line
    "blank_line": Rule("blank_line", "warning", "the line is blank", _MEND),
    "crlf": Rule("crlf", "warning", "the line ends in CR LF", _MEND),
    "legacy_encoding": Rule(
        "not_utf8",
        "error",
        "byte 0x{octet:02x} is not UTF-8 but Latin-1 ({encoding}) for {character!r}",
        "iconv -f {encoding} -t UTF-8 {path} > NEW",
    ),
    "overlong": Rule(
        "not_utf8",
        "error",
        "byte 0x{octet:02x} begins an overlong form, which UTF-8 forbids",
        "write the text again as plain UTF-8",
    ),
    "surrogate_bytes": Rule(
        "not_utf8",
        "error",
        "bytes 0xed 0x{octet:02x} are half a surrogate pair (CESU-8), not UTF-8",
        "write the text again as plain UTF-8; in Python never with errors='surrogatepass'",
    ),
    "broken_utf8": Rule(
        "not_utf8", "error", "byte 0x{octet:02x} is not UTF-8: {reason}", "write the text again as plain UTF-8"
    ),
    # JSON (RFC 8259)
    "not_json": Rule("invalid_json_line", "error", "not JSON: {reason}", _BUILD),
    "nan": Rule("invalid_json_line", "error", "JSON has no {word}", "write null, or leave the key away"),
    "python_literal": Rule(
        "invalid_json_line",
        "error",
        "JSON has no {word}",
        "write true, false and null; json.dumps does, str() does not",
    ),
    "single_quotes": Rule(
        "invalid_json_line", "error", "JSON takes double quotes only", 'use "…"; json.dumps does, str() does not'
    ),
    "trailing_comma": Rule(
        "invalid_json_line", "error", "JSON allows no comma after the last item", "remove the comma"
    ),
    "control_character": Rule(
        "invalid_json_line",
        "error",
        "a raw control character 0x{octet:02x} stands in a string",
        "write it as an escape such as \\n or \\t",
    ),
    "lone_surrogate": Rule(
        "invalid_json_line",
        "error",
        "an escape is half a surrogate pair: no character, and not writable as UTF-8",
        "remove it, or write both halves, as in \\ud83d\\ude00",
    ),
    "number_too_large": Rule(
        "invalid_json_line", "error", "a number is beyond what a double holds", "write a smaller number, or text"
    ),
    "too_deep": Rule("invalid_json_line", "error", "nested more than 254 deep", "flatten it"),
    "two_objects": Rule("invalid_json_line", "error", "more than one value on the line", _ONE_A_LINE),
    "cut_short": Rule("invalid_json_line", "error", "the object does not end on this line", _ONE_A_LINE),
    "not_object": Rule("invalid_json_line", "error", "a JSON {kind}, not an object", _BUILD),
    # The request line
    "keys_missing": Rule("invalid_request", "error", "the line has no {keys}", _BUILD),
    "keys_unknown": Rule(
        "unknown_key",
        "warning",
        "the line has keys no service knows: {keys}",
        "what belongs to the request goes into body",
    ),
    "key_twice": Rule("invalid_request", "error", "the key {key!r} stands twice in {where}", "keep one of them"),
    "custom_id": Rule("invalid_request", "error", "custom_id is {value}", "it must be a non-empty string"),
    "custom_id_twice": Rule("duplicate_custom_id", "error", "custom_id {value} is used twice", _UNIQUE),
    "method": Rule("invalid_request", "error", "method is {value}", 'it must be "POST"'),
    "url_type": Rule(
        "invalid_request", "error", "url is {value}", 'it must be a string such as "/v1/chat/completions"'
    ),
    "url_deployment": Rule(
        "url_mismatch",
        "error",
        "url {value}: /deployments/ has no place here",
        "use /v1/chat/completions, and the deployment's name as body.model",
    ),
    "url_unknown": Rule(
        "url_mismatch",
        "error",
        "url {value}: batches do not take it",
        "use /v1/chat/completions, /v1/responses or /v1/embeddings",
    ),
    "url_differs": Rule("url_mismatch", "error", "url is {value}, the first line's {first}", _APART),
    "url_not_azure": Rule(
        "url_not_on_azure",
        "warning",
        "url {value}: Azure's guide says that batches do not take it",
        "use chat completions or responses on Azure",
    ),
    # What is published of the model, as far as it can be told: never more than a warning, once a file
    "param_refused": Rule(
        "unsupported_parameter",
        "warning",
        "body.{key} is set, which {model} refuses as a {family} model (published {date}), here and wherever it stands",
        "{instead}",
    ),
    "url_refused": Rule(
        "unsupported_endpoint",
        "warning",
        "url {value}: {model} takes only {urls} (published {date})",
        "use that url, or another model; --model says which it is where the name misleads",
    ),
    "model_not_offered": Rule(
        "model_not_offered",
        "warning",
        "{model} is not among the models that are offered for batches (published {date})",
        "ask the service: batchkit doctor --probe -d {deployment}",
    ),
    # The body
    "body_type": Rule("invalid_request", "error", "body is a JSON {kind}, not an object", _BUILD),
    "model_missing": Rule("model_not_found", "error", "body.model is missing", _MODEL),
    "model_type": Rule("model_not_found", "error", "body.model is {value}, not a name", _MODEL),
    "model_placeholder": Rule("model_not_found", "error", "body.model is the placeholder {value}", _MODEL),
    "model_differs": Rule("model_mismatch", "error", "body.model is {value}, the first line's {first}", _APART),
    "stream": Rule("invalid_request", "error", "body.stream is {value}", "remove it: a batch does not stream"),
    "content_missing": Rule("invalid_request", "error", "body.{key} is missing or empty", "every body needs {key}"),
    "content_elsewhere": Rule(
        "invalid_request", "error", "the body has {found} where {url} takes {key}", "rename it, or use the other url"
    ),
    "content_type": Rule("invalid_request", "error", "body.{key} is a JSON {kind}", "it must be {wanted}"),
    "message": Rule(
        "invalid_request",
        "error",
        "body.messages[{index}] {trouble}",
        'a message is {{"role": "user", "content": "…"}}; roles are system, developer, user, assistant and tool',
    ),
    "param_misspelt": Rule(
        "unknown_parameter",
        "warning",
        "body.{key} is no known parameter of {url}, here and wherever it stands",
        "is {meant} meant?",
    ),
    "param": Rule("invalid_parameter", "error", "body.{key} is {value}", "it must be {wanted}"),
}


def told(rule: str, facts: dict[str, Any]) -> tuple[str, str]:
    """The sentence and the remedy of a rule."""
    found = RULES[rule]
    return found.sentence.format_map(facts), found.fix.format_map(facts)


_JSON = {None: "null", True: "true", False: "false"}


def shown(value: Any) -> str:
    """A value from a file, short enough for a sentence."""
    return shortened(_JSON[value] if value is None or isinstance(value, bool) else repr(value), 80)


class Findings:
    """What was found so far in a file: everything counted, the first `most` kept."""

    def __init__(self, most: int, path: str) -> None:
        self._most, self._path = most, quote(path)
        self.kept: list[Problem] = []
        self.codes: Counter[str] = Counter()
        self.total = self.errors = 0

    @property
    def full(self) -> bool:
        return len(self.kept) >= self._most

    def add(self, rule: str, *, line: int | None = None, byte: int | None = None, **facts: Any) -> None:
        found = RULES[rule]
        self.total += 1
        self.errors += found.severity == "error"
        self.codes[found.code] += 1
        if not self.full:
            message, fix = told(rule, {"path": self._path, **facts})
            self.kept.append(Problem(found.code, message, fix, line, byte, found.severity))
