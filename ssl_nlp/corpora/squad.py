"""Questions with answers in a text: SQuAD files, and records with such answers (Rajpurkar et al., arXiv:1606.05250)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_nlp.corpora.base import Document, Span
from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.errors import UserError


def answer_spans(place: str, context: str, answers: Any) -> tuple[Span, ...]:
    """The spans of answers: a list of `{"text", "answer_start"}`, or a record of such lists, as the hub has them.

    Several annotators may give the same answer; all are kept. No answer at all means that the question has none.

    Raises:
        UserError: an answer lacks a field, or is not at its place in the context.
    """
    if isinstance(answers, Mapping):
        texts, starts = (answers.get(name) for name in ("text", "answer_start"))
        if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
            raise UserError(
                f"{place}: `text` and `answer_start` of the answers are not lists of one length: repair them"
            )
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(answers, list):
        raise UserError(
            f"{place}: `answers` is {type(answers).__name__}, not a list: write a list, empty without answer"
        )
    spans = []
    for answer in answers:
        text, start = (_field(place, answer, name, kind) for name, kind in (("text", str), ("answer_start", int)))
        stop = start + len(text)
        if not text or start < 0 or context[start:stop] != text:
            found = context.find(text) if text else -1
            remedy = f"it begins at character {found}" if found >= 0 else "correct the answer, or remove the question"
            raise UserError(
                f"{place}: the answer {text[:40]!r} is not at character {start} of its context, which reads "
                f"{context[max(start, 0) : max(stop, 0)][:40]!r} there: {remedy}"
            )
        spans.append(Span(start, stop))
    return tuple(spans)


def read_squad(path: Path) -> Iterator[Document]:
    """The questions of a SQuAD file: text = the context, pair = the question, label = the spans of all answers.

    A question with `is_impossible` has no answer, whatever stands in `answers`. A question without the field `answers`
    has no label.

    Raises:
        UserError: the file is not JSON, a field is missing, or an answer is not at its place.
    """
    try:
        content = json.loads("".join(read_lines(path)))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno} is not JSON: {error.msg} at character {error.colno}") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): repair it") from error
    for article in _field(f"{path}, which is not in SQuAD's format", content, "data", list):
        for paragraph in _field(str(path), article, "paragraphs", list):
            context = _text(str(path), paragraph, "context")
            for question in _field(f"{path}, context {context[:40]!r}", paragraph, "qas", list):
                place = f"{path}, question {question.get('id') if isinstance(question, dict) else question!r}"
                asked = _text(place, question, "question")
                label: tuple[Span, ...] | None = None
                if question.get("is_impossible"):
                    label = ()
                elif "answers" in question:
                    label = answer_spans(place, context, question["answers"])
                number = question.get("id")
                yield Document(context, label, asked, None if number is None else str(number))


def _field(place: str, record: Any, name: str, kind: type) -> Any:
    if not isinstance(record, Mapping) or name not in record:
        raise UserError(f"{place}: the field `{name}` is missing: add it")
    if not isinstance(record[name], kind) or isinstance(record[name], bool):
        wanted = {str: "a text", int: "a whole number", list: "a list"}[kind]
        raise UserError(f"{place}: the field `{name}` is not {wanted}: correct it")
    return record[name]


def _text(place: str, record: Any, name: str) -> str:
    text: str = _field(place, record, name, str)
    if not text.strip():
        raise UserError(f"{place}: the field `{name}` is blank: fill it, or remove the record")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can escape half a character, UTF-8 cannot hold it
        raise UserError(f"{place}: half of a surrogate pair in `{name}`: repair it") from error
    return text
