"""The command line. Heavy imports happen inside the commands."""

from genets.cli.app import app, main

__all__ = ["app", "main"]
