"""Errors that tell a person what was wrong and what to do next."""

from __future__ import annotations

import unicodedata

# Control and format characters, line and paragraph separators: they could rewrite a terminal or forge a line of a log.
_UNPRINTABLE = ("Cc", "Cf", "Zl", "Zp")


class ShelfkinError(Exception):
    """Root of every error that shelfkin raises on purpose.

    Parameters
    ----------
    message
        What was wrong, the value that was seen and the rule that it broke.
    next_step
        What the reader can do about it, as an imperative sentence.

    Attributes
    ----------
    kind
        Short machine-readable word that ends up in ``error.json``.
    retryable
        Whether the same input may succeed on another try. Airflow retries only these.
    """

    kind = "error"
    retryable = False

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} Next step: {self.next_step}" if self.next_step else self.message


class UnexpectedError(ShelfkinError):
    """What a stage didn't foresee."""

    kind = "unexpected"
    retryable = True


class ProfileError(ShelfkinError):
    """A store profile or a setting is wrong."""

    kind = "profile"


class OptionError(ShelfkinError):
    """A run option is out of its range or contradicts another one."""

    kind = "option"


class SourceError(ShelfkinError):
    """The shop's raw data is missing, unreadable or lacks a column."""

    kind = "source"


class DataQualityError(ShelfkinError):
    """The data was read, but too little of it is usable."""

    kind = "data_quality"


class StaleDataError(ShelfkinError):
    """The newest event is older than the profile allows for this as_of."""

    kind = "stale_data"


class ArtifactError(ShelfkinError):
    """A manifest, table or pointer is missing or doesn't hold what it should."""

    kind = "artifact"


class GateError(ShelfkinError):
    """A run's lists are worse than what they would replace, or than a plain baseline."""

    kind = "gate"


class ReconciliationError(ShelfkinError):
    """Row counts don't add up: a bug in a stage, never the user's fault."""

    kind = "reconciliation"


class EmbeddingError(ShelfkinError):
    """The embedding endpoint refused, and asking again will not help."""

    kind = "embedding"


class EmbeddingUnavailableError(EmbeddingError):
    """The embedding endpoint didn't answer within the deadline; a later try may succeed."""

    kind = "embedding_unavailable"
    retryable = True


class PublishError(ShelfkinError):
    """The shop's database refused, and asking again will not help."""

    kind = "publish"


class PublishUnavailableError(PublishError):
    """The shop's database didn't answer, broke off or was busy; a later try may succeed."""

    kind = "publish_unavailable"
    retryable = True


def without_controls(text: str, *, keep: str = "") -> str:
    """Return text from outside as a message may quote it: every control character is a space, except those in `keep`.

    Control characters are those of the Unicode categories Cc, Cf, Zl and Zp.
    """
    return "".join(
        " " if unicodedata.category(character) in _UNPRINTABLE and character not in keep else character
        for character in text
    )
