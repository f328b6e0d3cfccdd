"""The one error tree.

    EcgError
    |-- ConfigurationError        a setting, profile or option is wrong              exit 2
    |-- SourceError               a file or folder of ECG cannot be used             exit 3
    |-- DataInvalidError          data validation refused the training data          exit 3
    |-- NotBlessedError           a model was trained but did not pass its gates     exit 4
    |-- UnavailableError          something this process needs is not there          exit 5
    |   |-- DatabaseUnavailableError
    |   |   `-- DatabaseBusyError a transaction gave way to another; it can be run again
    |   |-- StorageError          disk full or not writable
    |   `-- ModelUnavailableError no model version, or the model server is down
    |-- NotFoundError             the thing asked for does not exist                 exit 3
    |-- ConflictError             it contradicts what is there already               exit 3
    `-- RequestError              a request's parameter or body is wrong             exit 2

Every error says what it is about (`subject`), what is wrong (`problem`) and what to do (`hint`).
HTTP statuses are decided in `api/problems.py`, nowhere else.
"""

from typing import ClassVar

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_DATA = 3
EXIT_NOT_BLESSED = 4
EXIT_UNAVAILABLE = 5


class EcgError(Exception):
    """Base of all errors this platform raises on purpose.

    Args:
        subject: what it is about: a file, a key, a recording, a window, a model version.
        problem: what is wrong, in one clause.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = EXIT_UNEXPECTED

    def __init__(self, subject: str, problem: str, hint: str = "") -> None:
        self.subject = subject
        self.problem = problem
        self.hint = hint
        super().__init__(subject, problem, hint)  # args rebuild the error when it crosses a process boundary

    def __str__(self) -> str:
        line = f"{self.subject}: {self.problem}"
        return f"{line}. {self.hint}" if self.hint else line


class ConfigurationError(EcgError):
    """A setting, a profile or an option is wrong."""

    exit_code = EXIT_CONFIGURATION


class SourceError(EcgError):
    """A file or folder of ECG cannot be used."""

    exit_code = EXIT_DATA


class DataInvalidError(EcgError):
    """Data validation refused the training data."""

    exit_code = EXIT_DATA


class NotBlessedError(EcgError):
    """A model was trained but did not pass its gates."""

    exit_code = EXIT_NOT_BLESSED


class UnavailableError(EcgError):
    """Something this process needs is not there."""

    exit_code = EXIT_UNAVAILABLE


class DatabaseUnavailableError(UnavailableError):
    """A database does not answer."""


class DatabaseBusyError(DatabaseUnavailableError):
    """A transaction was given up for another's sake (a deadlock); run again, it may succeed."""


class StorageError(UnavailableError):
    """The disk is full or cannot be written."""


class ModelUnavailableError(UnavailableError):
    """There is no model version to use, or the model server is down."""


class NotFoundError(EcgError):
    """The thing asked for does not exist."""

    exit_code = EXIT_DATA


class ConflictError(EcgError):
    """It contradicts what is there already."""

    exit_code = EXIT_DATA


class RequestError(EcgError):
    """A request's parameter or body is wrong."""

    exit_code = EXIT_CONFIGURATION
