"""The commands of ``vidlib``; nothing heavy is imported before a command needs it."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (default: the one on the command line); the exit code."""
    from vidlib.cli import commands  # here, so that importing the room costs nothing

    return commands.main(arguments)
