"""The command line: one short function a command; everything heavy is imported inside the command that needs it."""

from srun.cli.app import cli, main, optimize_main

__all__ = ["cli", "main", "optimize_main"]
