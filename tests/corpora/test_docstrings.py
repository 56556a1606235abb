import inspect
from pathlib import Path

import pytest

from ssl_nlp.corpora.docstrings import docstrings, documents, prose

NUMPYDOC = """
Compute the *mean* of the given ``values`` along an axis [1]_. It is what
:func:`~numpy.mean` does, see `the guide <https://example.org/guide>`_ for more
about :class:`Axis`.

.. versionadded:: 1.2
    Something that nobody reads.

.. note:: The first line of a note
    and its second line.

The method is used as follows::

    mean = compute(values)

    print(mean)

and it never fails for numbers.

Parameters
----------
values : array_like, shape (n,)
    The numbers whose mean is wanted,
    which must not be empty.
axis : int
    Along which axis to compute it.

Returns
-------
float
    The mean of all the values.

See Also
--------
median : The middle value of the sorted ones
    or the mean of the middle two.

Notes
-----
========  =======
Column A  another one of the table
========  =======
first     a row of the table with words
========  =======

- the first item of a list
- the second item of a list,
  on two lines

Examples
--------
>>> compute([1, 2, 3])
2.0
... some output that reads like an English sentence

References
----------
.. [1] A. Author, "A Title of a Book That Is Long", 1999.
"""

NUMPYDOC_PROSE = """
Compute the mean of the given values along an axis. It is what mean does, see the guide for more about Axis.
The first line of a note and its second line.
The method is used as follows:
and it never fails for numbers.
The numbers whose mean is wanted, which must not be empty.
Along which axis to compute it.
The mean of all the values.
the first item of a list
the second item of a list, on two lines
"""

GOOGLE = """Return a copy of the text with **every** word reversed.

    Args:
        text (`str`, *optional*):
            The text that shall be changed, see [`reverse`] and
            [its page](https://example.org).
        deep: Whether to look into words within words, too.
    Returns:
        The changed text, as a new string.

    Example:

    ```python
    reverse("this is code that reads like plain English words")
    ```

    | a | table of some plain English words |
    """

GOOGLE_PROSE = """
Return a copy of the text with every word reversed.
The text that shall be changed, see reverse and its page.
Whether to look into words within words, too.
The changed text, as a new string.
"""

FIELDS = """Open the file and return all of its lines.

:param str path: the path of the file that is read
:type path: str
:returns: the lines of the file as a list
"""

FIELDS_PROSE = """
Open the file and return all of its lines.
the path of the file that is read
the lines of the file as a list
"""


@pytest.mark.parametrize(
    ("docstring", "expected"), [(NUMPYDOC, NUMPYDOC_PROSE), (GOOGLE, GOOGLE_PROSE), (FIELDS, FIELDS_PROSE)]
)
def test_prose_of_the_common_styles(docstring: str, expected: str) -> None:
    assert prose(docstring) == expected.strip()


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        "Return the name.",
        "x = f(y_1, y_2) + g(z)[0] -> {'a': 1} | None # and so on",
        "sympy.core.add sympy.core.mul sympy.core.power sympy.core.symbol sympy.core.expr",
        ">>> print('this is an example of some code')\nthis is an example of some code",
    ],
)
def test_what_is_no_prose(docstring: str) -> None:
    assert prose(docstring) == ""


def test_a_wrapped_line_may_look_like_a_term() -> None:
    text = "The parts are joined by this sign, which some call a\ncolon: it is never left out of the text."
    assert prose(text) == text.replace("\n", " ")


SOURCE = inspect.cleandoc('''
    """Module."""
    raise SystemExit("never run")


    def outer(x="""no docstring"""):
        """Outer."""

        async def inner():
            """Inner."""

        class Local:
            """Local."""


    class Class:
        """Class."""

        attribute = 1
        """No docstring either."""

        if attribute:

            def method(self):
                """Method."""

        else:
            try:

                def method(self):
                    """Other."""

            except ValueError:
                pass


    def none():
        return """no docstring"""
''')


def test_docstrings_of_all_definitions_from_top_to_bottom() -> None:
    found = [text for text in docstrings(SOURCE.encode()) if text]
    assert found == ["Module.", "Outer.", "Inner.", "Local.", "Class.", "Method.", "Other."]


@pytest.mark.parametrize(
    "source",
    [
        b'"""A sentence that is long enough to be kept."""\nprint "Python 2"',
        b'"""A sentence that is long enough to be kept, \xff."""',
        b'"""A sentence that is long enough to be kept."""\0',
        b"# no docstring",
    ],
)
def test_files_that_cannot_be_read_have_no_documents(tmp_path: Path, source: bytes) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(source)
    assert documents(str(path)) == []


def test_half_a_surrogate_pair_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        '"""The sign \\ud800 is half of a surrogate pair."""\n'
        'class A:\n    """A sentence that is long enough to be kept."""'
    )
    assert documents(str(path)) == ["A sentence that is long enough to be kept."]
