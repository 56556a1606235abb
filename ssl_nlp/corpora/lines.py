"""Files to lines of text, whose errors name the problem and its place."""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ssl_nlp.errors import UserError


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed when it ends with `.gz`.

    Raises:
        UserError: here or while the bytes are read, when the file cannot be read or is not a complete gzip file.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]  # a GzipFile is all that we need of a BinaryIO
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file ({error}): compress or copy it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, each ending as on Unix. A byte order mark is dropped.

    Only LF and CR LF end a line, as for `wc -l`; the other characters that Unicode counts as line ends belong to the text.
    """
    with opened(path) as file:
        yield from decoded_lines(str(path), file)


def decoded_lines(name: str, lines: Iterable[bytes]) -> Iterator[str]:
    """The lines of `read_lines`, from lines of bytes.

    Raises:
        UserError: the bytes are not UTF-8, or hold NUL bytes, as other encodings and files that are not text do.
    """
    offset = 0
    for line in lines:
        if not offset and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{name} is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)")
        try:
            decoded = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} is not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}; "
                "convert it (iconv -t UTF-8) or leave it out"
            ) from error
        if "\0" in decoded:
            raise UserError(
                f"{name} is not text: it holds a NUL byte at offset {offset + line.index(0)}; convert it (from UTF-16, "
                "perhaps) or leave it out"
            )
        if not offset:
            decoded = decoded.removeprefix(codecs.BOM_UTF8.decode())
        offset += len(line)
        yield decoded[:-2] + "\n" if decoded.endswith("\r\n") else decoded
