"""The console command, and `python -m batchkit`."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still being loaded is no traceback either."""
    try:
        from batchkit import interrupts

        interrupts.leave()
        from batchkit.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
