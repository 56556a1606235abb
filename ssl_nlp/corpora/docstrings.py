"""Docstrings of Python files as English prose.

Imports nothing but the standard library, so that it also runs as a script: paths as JSON on standard input, their
documents as JSON on standard output. `installed_docs` starts one such process per core, which parses in parallel
without forking a process that may hold threads, and without importing the caller's main module again.
"""

import ast
import gc
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# A paragraph is prose when it has this many words, and this share of them are made of letters.
MIN_WORDS = 5
MIN_PLAIN_WORDS = 0.75
# A docstring is a document when its prose has this many characters.
MIN_CHARACTERS = 40

ADMONITIONS = {"admonition", "attention", "caution", "danger", "hint", "important", "note", "tip", "warning"}
LISTS = {"see also", "references"}  # sections that hold no sentences

_HEADING = re.compile(r"[A-Z]\w+(?: \w+){0,2}:$")
_UNDERLINE = re.compile(r"([=\-~^\"'#*+.`_:])\1{2,}$")
_TABLE = re.compile(r"[|+]|=+( +=+)+$|-+( +-+)+$")
_DIRECTIVE = re.compile(r"\.\. ?([\w:-]+?)::(?:\s+(.*))?$")
_FIELD = re.compile(r":\w[^:]*:(?:\s+(.*))?$")
_BULLET = re.compile(r"(?:[-*+•]|\(?\d{1,2}[.)]|[a-zA-Z]\))\s+")
_NUMPYDOC_TERM = re.compile(r"\*{0,2}[\w.]+(?:, ?\*{0,2}[\w.]+)* :(?: |$)")
_GOOGLE_TERM = re.compile(r"[`*]{0,2}[\w.]+[`*]{0,2}(?: ?\(.*?\)| ?\[.*?\])?:(?:\s+|$)")
_MARKUP: list[tuple[str, re.Pattern[str], str]] = [  # what a paragraph must hold, the pattern, its replacement
    ("`", re.compile(r"(?::[\w+:.-]+:)?`+([^`<]+?)\s*<[^`>]*>`+_{0,2}"), r"\1"),  # :ref:`text <url>`, `text <url>`_
    ("`", re.compile(r"(?::[\w+:.-]+:)?\[?`~(?:[^`]*\.)?([^`.]+)`\]?"), r"\1"),  # :class:`~package.module.X`
    ("`", re.compile(r"(?::[\w+:.-]+:)?(\[?)(`{1,3})!?(.+?)\2\]?_{0,2}"), r"\3"),  # :class:`X`, ``x``, `x`, [`x`]
    ("](", re.compile(r"!?\[([^\]]+)\]\([^)\s]*\)"), r"\1"),  # [text](url)
    ("]_", re.compile(r" ?\[[#*]?\w*\]_"), ""),  # [1]_
    ("*", re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])(.+?)(?<=[^\s*])\1(?![\w*])"), r"\2"),  # *x*, **x**
    ("<", re.compile(r"</?[a-zA-Z][^>]*>"), ""),
    ("://", re.compile(r" ?[(<]?\b(?:https?|ftp)://[^\s>)]+[)>]?"), ""),
    ("\\", re.compile(r"\\([*_`|\\ ])"), r"\1"),
]
_WORD = re.compile(r"(?<![^\s(\"'])[A-Za-z]+(?:[-'’/][A-Za-z]+)*(?=[.,;:!?)\"']*(?:\s|$))")


def prose(docstring: str) -> str:
    """The English sentences of a docstring, one paragraph a line, without reStructuredText, Markdown, code or tables.

    Understands reStructuredText, numpydoc and Google style. Empty when no prose is left.
    """
    kept: list[str] = []
    paragraph: list[str] = []
    start = 0  # indentation of the paragraph's first line
    hanging = False  # its further lines may be indented deeper
    literal: int | None = None  # inside a block of code, which is whatever is indented deeper than this
    until_blank = False  # inside a doctest or a table
    listing = False  # inside a section of `LISTS`
    fence = ""

    def end_paragraph() -> None:
        nonlocal literal
        if paragraph:
            text = " ".join(paragraph)
            paragraph.clear()
            if text.endswith("::"):
                text, literal = text[:-1], start
            if not listing and (text := _plain(text)):
                kept.append(text)

    for line in inspect.cleandoc(docstring).splitlines():
        text = line.strip()
        if fence or text.startswith(("```", "~~~ ")):
            end_paragraph()
            if not fence:
                fence = text[:3] if text.count("```") == 1 else ""
            elif text.startswith(fence):
                fence = ""
            continue
        if not text:
            end_paragraph()
            until_blank = False
            continue
        indent = len(line) - len(line.lstrip())
        if literal is not None and indent <= literal:
            literal = None
        if literal is not None or until_blank:
            continue
        first = text[0]
        if not (first.isalnum() or first == "("):
            if text.startswith((">>>", "In [")) or _TABLE.match(text):
                end_paragraph()
                until_blank = True
                continue
            if _UNDERLINE.match(text):
                listing = " ".join(paragraph).lower() in LISTS
                paragraph.clear()  # the title
                continue
            if text.startswith((".. ", "..\t")):
                end_paragraph()
                directive = _DIRECTIVE.match(text)
                if directive and directive[1] in ADMONITIONS:
                    start, hanging = indent, True
                    paragraph += filter(None, [directive[2]])
                else:
                    literal = indent
                continue
            if field := _FIELD.match(text):
                end_paragraph()
                start, hanging = indent, True
                paragraph += filter(None, [field[1]])
                continue
        if _HEADING.match(text):
            end_paragraph()
            continue
        if paragraph and (indent < start or (indent > start and not hanging and len(paragraph) == 1)):
            end_paragraph()
            if literal is not None and indent > literal:
                continue
        if not paragraph or indent <= start:
            if term := _NUMPYDOC_TERM.match(text):
                end_paragraph()
                continue
            term = _BULLET.match(text)
            if not term and (hanging or not paragraph):  # otherwise it is a wrapped line that happens to look like one
                term = _GOOGLE_TERM.match(text)
            if term:
                end_paragraph()
                start, hanging, text = indent, True, text[term.end() :]
            elif not paragraph:
                start, hanging = indent, False
        if text:
            paragraph.append(text)
    end_paragraph()
    document = "\n".join(kept)
    return document if len(document) >= MIN_CHARACTERS else ""


def _plain(paragraph: str) -> str:
    """A paragraph without inline markup; empty when it is not prose."""
    for mark, pattern, replacement in _MARKUP:
        if mark in paragraph:
            paragraph = pattern.sub(replacement, paragraph)
    words = paragraph.split()
    if len(words) < MIN_WORDS or len(_WORD.findall(paragraph)) < MIN_PLAIN_WORDS * len(words):
        return ""
    return " ".join(words)


def docstrings(source: bytes) -> Iterator[str]:
    """The docstrings of a Python file as they are, of its module, classes and functions, from top to bottom; "" for none.

    Raises:
        SyntaxError, ValueError: not Python of this version (or not decodable, or with null bytes).
        RecursionError, MemoryError: nested too deeply for the parser.
    """
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node, clean=False) or ""
        # Definitions hide in statements only (if, try, with, match): expressions need no visit.
        children: list[ast.AST] = []
        for name in ("body", "handlers", "orelse", "finalbody", "cases"):
            value = getattr(node, name, None)
            if isinstance(value, list):
                children += value
        nodes.extend(reversed(children))


def documents(path: str) -> list[str]:
    """The prose of each docstring of a Python file. Files that this Python cannot read have none."""
    try:
        source = Path(path).read_bytes()
        if b'"""' not in source and b"'''" not in source:  # spares the parser a fifth of all files
            return []
        texts = map(prose, docstrings(source))
        # An escape in a docstring may make half of a surrogate pair, which no encoding can hold.
        return [text for text in texts if text and text == text.encode(errors="ignore").decode()]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # other people's code


if __name__ == "__main__":
    gc.disable()  # syntax trees hold no cycles; looking for some takes half of the time
    json.dump([documents(path) for path in json.load(sys.stdin)], sys.stdout)
