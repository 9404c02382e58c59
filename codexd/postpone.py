"""Modules of others that are imported by name and hardly ever used: loaded on their first use."""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any, Final

_lock = threading.Lock()
_UNTIL_THEN: Final = "_codexd_until_then"


class _Postponed(ModuleType):
    """Stands for a module. importlib's LazyLoader loads it when it is imported a second time."""

    def __getattr__(self, name: str) -> Any:
        # Two threads may want it first: only one takes its stand-in away.
        with _lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
                for known in vars(self).pop(_UNTIL_THEN, ()):
                    delattr(self, known)
        return getattr(importlib.import_module(self.__name__), name)


def postpone(name: str, **until_then: Any) -> None:
    """Have ``name`` loaded when something of it is first wanted; nothing where it is loaded.

    One that is not there stays so; of one in a package that is not loaded nobody can tell, and it
    is taken to be there. What ``until_then`` has is told of it meanwhile, and does not load it.
    """
    package, _, own_name = name.rpartition(".")
    can_tell = not package or package in sys.modules
    if name in sys.modules or (can_tell and importlib.util.find_spec(name) is None):
        return
    module = sys.modules[name] = _Postponed(name)
    vars(module).update(until_then, **{_UNTIL_THEN: tuple(until_then)})
    if package in sys.modules:
        setattr(sys.modules[package], own_name, module)
