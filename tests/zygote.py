"""Starts the command line as real processes without loading it anew each time: a loaded process that forks itself.

Reads a JSON list of arguments a line; answers with the pid of the child that runs them, and once it has ended with its
exit code, negative for the signal that killed it.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    import batchkit.cli
    import batchkit.cli.session
    import batchkit.client
    import batchkit.emulator.serve  # loaded once, for all that are forked

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.argv = ["batchkit", *json.loads(line)]
            sink = os.open(os.devnull, os.O_RDWR)
            log = os.open(os.environ["ZYGOTE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for old, new in ((0, sink), (1, sink), (2, log)):
                os.dup2(new, old)
            try:
                batchkit.cli.main()
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1 if end.code else 0)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
