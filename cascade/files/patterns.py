"""Texts of a fixed form in a configuration, refused in words."""

import re

from pydantic import AfterValidator

__all__ = ["text_of_form"]


def text_of_form(pattern: str, words: str) -> AfterValidator:
    """A check of a text against a regular expression that its reader never sees.

    Args:
        pattern: of the whole text.
        words: what the text must be, after "must be".
    """

    def checked(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(checked)
