"""The version of this installation."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("raysft")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0.0.0"
