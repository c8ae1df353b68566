"""Names of a package that are imported on first use, so that the command line can start without jax."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(
    package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: its full name.
        homes: for each module of this library its names; "name:other" provides `name` as `other`.
        modules: the submodules that are public.
    """
    sources = {name.split(":")[-1]: (home, name.split(":")[0]) for home, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:  # noqa: N807 - the name that PEP 562 asks for
        if name in sources:
            home, own = sources[name]
            value = getattr(import_module(f"dequnmix_jax.{home}"), own)
        elif name in modules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return sorted([*sources, *modules])

    return __getattr__, __dir__
