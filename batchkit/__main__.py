"""`python -m batchkit`."""

from batchkit.cli import main

main()
