"""Test extras: packages and programs that only tests need."""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def extra(name: str) -> ModuleType:
    """Return the module. Without it the test is skipped; in CI, where all extras are installed, it fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        _missing(f"a test extra is missing: {error.name}")


def program(name: str) -> str:
    """Return the path of a program of the system; without it as `extra`."""
    return shutil.which(name) or _missing(f"a program is missing: {name} (see .ci/run)")


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
