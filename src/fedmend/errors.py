"""The errors that fedmend raises on bad input.

::

    FedmendError
    ├── DataError         images, labels or a data source that can't be used
    ├── CheckpointError   a model file that is damaged, hostile or of another architecture
    ├── ModelError        a model or an architecture name that can't be used
    │   └── DivergedError     training ended in NaN or infinite values
    ├── ConfigError       a setting out of range, unknown or inconsistent
    └── OutputError       a result that can't be written

Every message states what was expected, what came and what to try. The command line prints it as
one line and exits with code 2.
"""


class FedmendError(Exception):
    """Base class of fedmend's errors."""


class DataError(FedmendError):
    """Images, labels or a data source that can't be used."""


class CheckpointError(FedmendError):
    """A model file that is damaged, hostile or of another architecture."""


class ModelError(FedmendError):
    """A model or an architecture name that can't be used."""


class DivergedError(ModelError):
    """Training ended in NaN or infinite values."""


class ConfigError(FedmendError):
    """A setting that is unknown, out of range or inconsistent with another."""


class OutputError(FedmendError):
    """A result that can't be written."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python or torch, says that memory ran out; torch has no type for that on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error) if isinstance(error, RuntimeError) else ""
    return "DefaultCPUAllocator" in said or "can't allocate memory" in said
