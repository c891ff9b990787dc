"""Test extras: packages that only tests need."""

import importlib
import os
from types import ModuleType

import pytest


def extra(name: str) -> ModuleType:
    """Return the module. Without it the test is skipped; in CI, where all extras are installed, it fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        reason = f"a test extra is missing: {error.name}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
