"""What all command lines share: one clear line for an error, a meaningful exit code, a progress bar."""

import errno
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from configs.errors import EXIT_UNAVAILABLE, EXIT_UNEXPECTED, EcgError, StorageError

EXIT_INTERRUPTED = 130  # what shells give for a process that Ctrl-C ended

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def run(command: Callable[..., None]) -> None:
    """Runs `command` as a command line; errors become one line on standard error and an exit code.

    `--debug` anywhere on the line shows the traceback instead.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    else:
        warnings.filterwarnings("ignore")  # libraries' deprecations are not the user's business
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command(epilog="Add --debug to see a traceback instead of one line.")(_interruptible(command))
    try:
        app()
    except EcgError as error:
        if debug:
            raise
        fail(str(error), error.exit_code)
    except OSError as error:
        if debug:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            fail(
                str(StorageError(str(error.filename or "disk"), os.strerror(error.errno), "Free space and run again.")),
                EXIT_UNAVAILABLE,
            )
        fail(f"{error.filename or 'system'}: {error.strerror or error}", EXIT_UNAVAILABLE)
    except Exception as error:
        if debug:
            raise
        detail = str(error).strip().splitlines()
        fail(
            f"unexpected {type(error).__name__}: {detail[0] if detail else ''}. Run again with --debug and report it.",
            EXIT_UNEXPECTED,
        )


def fail(line: str, code: int) -> None:
    """Prints `line` as the error and exits with `code`."""
    stderr.print(Text.assemble(("error", "bold red"), f": {_printable(line)}"))
    raise SystemExit(code)


def show(table: Table) -> None:
    """Prints a table to standard output; wide where that is not a terminal, so that nothing is cut off."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    console.print(table)


def note(line: str) -> None:
    """Prints a line about what is going on to standard error."""
    stderr.print(Text(_printable(line)))


def progress() -> Progress:
    """A progress bar on standard error; silent when that is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
        transient=True,
    )


def write_json(path: Path | None, value: Any) -> None:
    """Writes `value` to `path` for another program to read, whole or not at all; does nothing when path is None."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """The command line's library would end Ctrl-C without a word."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            fail("stopped", EXIT_INTERRUPTED)

    return wrapped


def _printable(text: str) -> str:
    """Names of files may hold escape codes; those are no business of the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
