"""Errors that a person is meant to read: one sentence with what, where, why and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SelftaughtError(Exception):
    """Something that the user can mend. The command line prints the sentence and leaves with `code`."""

    code = 1


class DataError(SelftaughtError):
    """The data as a whole cannot be used: missing, empty, ragged, of one sample, too many bad items."""


class OptionError(SelftaughtError):
    """An option, key or name that does not exist or does not fit; names the nearest known one."""

    code = 2


class NotApplicable(SelftaughtError):
    """A modality or backbone cannot supply what a method needs (a table cannot be rotated); carries the reason."""


class Collapsed(SelftaughtError):
    """A health verdict stopped the run."""

    code = 3


class NonFinite(SelftaughtError):
    """The loss or a gradient became NaN or infinite; names the term, the step and the last good checkpoint."""


class BadItem(Exception):
    """One item cannot be decoded. The loader quarantines it; it is never shown as a traceback."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def nearest(word: str, known: Iterable[str], *, what: str, error: type[SelftaughtError] = OptionError) -> SelftaughtError:
    """The error for an unknown `word`: says which known one is nearest, and lists them when they are few."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listed = f" Known: {', '.join(known)}." if len(known) <= 24 else ""
    return error(f"There is no {what} '{word}'.{hint}{listed}")
