"""``fedmend verify``: check a guard's history."""

from __future__ import annotations

from pathlib import Path

from fedmend.cli.console import show
from fedmend.errors import ConfigError, DataError, FedmendError
from fedmend.federation import RunFolder
from fedmend.guard import History, check_signature, counted

EXIT_CHANGED = 1


def verify(history: Path, public_key: Path | None) -> int:
    """See :func:`fedmend.cli.verify_options.verify`."""
    found = next(
        (each for each in (History(history), History(RunFolder(history).guard)) if each.exists()), None
    )
    if found is None:
        raise DataError(f"{history} holds no guard's history; expected a folder with manifest.json")
    try:
        ledger = found.check()
        if public_key is not None:
            check_signature(found, public_key)
    except ConfigError:
        raise
    except FedmendError as error:
        show(f"NOT INTACT. {error}")
        return EXIT_CHANGED
    show(f"INTACT. {ledger.lines} decisions: {counted(found.lines())}.")
    show(f"Last decision: SHA-256 {ledger.head}")
    if ledger.last is not None:
        show(f"Released: {found.models / ledger.last.stored.file}, {ledger.last.said}")
    return 0
