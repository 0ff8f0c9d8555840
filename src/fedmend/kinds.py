"""Methods by name: a table with a ``kind``, from TOML or the command line, to the method that it names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from fedmend.errors import ConfigError, FedmendError
from fedmend.user_code import accepts, current_folder_importable, in_one_line, is_own, load_factory


def from_table(
    table: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]], what: str, **given: Any
) -> Any:
    """Make what ``table["kind"]`` names; the table's other entries are its settings.

    Args:
        table: ``kind`` is a name in ``kinds``, or ``package.module:factory`` for one of the user's own.
        kinds: names to what makes the method.
        what: what it is, in messages: "trigger", "aggregation rule", ...
        given: further arguments for every method of this kind, such as the images' shape.

    Raises:
        ConfigError: there is no ``kind``, it is unknown, or its settings are refused.
    """
    name, chosen = table.get("kind"), {key: value for key, value in table.items() if key != "kind"}
    if not isinstance(name, str):
        raise ConfigError(f"{what}: expected a kind, one of {', '.join(kinds)}; got {name!r}")
    for key in given:
        if key in chosen:
            raise ConfigError(f"the {what} {name} is given {key} by fedmend; leave it out of the table")
    if not is_own(name):
        return find_kind(name, kinds, what)(**chosen, **given)
    with current_folder_importable(name):
        factory = load_factory(name, what, ConfigError)
        for key, value in given.items():
            if not accepts(factory, key):
                raise ConfigError(
                    f"the {what} {name} must take {key} by keyword, as a parameter or a field of a @settings "
                    f"class; fedmend gives it, here {value!r}"
                )
        try:
            return factory(**chosen, **given)
        except FedmendError:
            raise
        except (Exception, SystemExit) as error:
            passed = ", ".join(f"{key}={value!r}" for key, value in {**chosen, **given}.items())
            hint = f"; it names what makes the {what}" if isinstance(error, TypeError) else ""
            raise ConfigError(
                f"the {what} {name} failed when called with ({passed}): {in_one_line(error)}{hint}"
            ) from error


def find_kind(
    name: str, kinds: Mapping[str, Callable[..., Any]], what: str, error: type[FedmendError] = ConfigError
) -> Callable[..., Any]:
    """The entry of ``kinds`` with this name, hyphens and underscores alike.

    Raises:
        FedmendError: of the kind ``error``: there is none; the message names the nearest.
    """
    spelled = name.strip().lower().replace("_", "-")
    if spelled in kinds:
        return kinds[spelled]
    near = difflib.get_close_matches(spelled, kinds, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise error(
        f"there is no {what} {name!r}; {hint}expected {', '.join(kinds)}, or package.module:factory for one of your own"
    )
