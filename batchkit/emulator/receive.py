"""An upload taken from the wire to the disk: multipart/form-data, one pass, one write, nothing kept in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from batchkit.emulator.api import Refusal
from batchkit.emulator.store import private

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a hostile form is the sender's trouble, not ours

FIELD_BYTES = 64 << 10
FIELDS = 32


@dataclass
class Upload:
    """What came: the plain fields, and the file's name and type; its bytes lie where they were to be put."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    content_type: str = ""
    size: int = 0


async def receive(pieces: AsyncIterator[bytes], content_type: str, path: Path, *, max_bytes: int) -> Upload:
    """Put the first file of a form at `path`. Raises Refusal for what is no form, or too large; then nothing stays."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal(400, "invalidPayload", "The request is not multipart/form-data.")
    with ExitStack() as stack:
        form = _Form(path, max_bytes, stack)
        stack.callback(form.forsake)
        try:
            parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
            async for piece in pieces:
                parser.write(piece)
            parser.finalize()
        except FormParserError as error:
            raise Refusal(400, "invalidPayload", f"The form cannot be read: {error}") from None
        if not form.complete:
            raise Refusal(400, "invalidPayload", "The form ends too early.")
        form.keep = True
    return form.upload


class _Form:
    """The parser's callbacks."""

    def __init__(self, path: Path, max_bytes: int, stack: ExitStack) -> None:
        self.upload, self.complete, self.keep = Upload(), False, False
        self._path, self._max_bytes, self._stack = path, max_bytes, stack
        self._file: FileIO | None = None
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._name, self._text, self._is_file = "", bytearray(), False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._finish,
            "on_end": self._on_end,
        }

    def forsake(self) -> None:
        """Leave nothing of a form that was not taken."""
        if not self.keep:
            self._path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._headers, self._text = {}, bytearray()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._is_file = filename is not None
        if filename is not None and self._file is None and self._name == "file":
            self._file = self._stack.enter_context(private(self._path))
            self.upload.filename = filename.decode("utf-8", "replace")
            self.upload.content_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._text += data[start:end]
            if len(self._text) > FIELD_BYTES or len(self.upload.fields) >= FIELDS:
                raise Refusal(413, "invalidPayload", "The form's fields are too large.")
        elif self._file is not None and self._name == "file":
            self.upload.size += end - start
            if self.upload.size > self._max_bytes:
                raise Refusal(413, "invalidPayload", f"The file is too large. The maximum is {self._max_bytes} bytes.")
            view = memoryview(data)[start:end]
            while view:
                view = view[self._file.write(view) :]

    def _finish(self) -> None:
        if not self._is_file:
            self.upload.fields[self._name] = self._text.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.complete = True
