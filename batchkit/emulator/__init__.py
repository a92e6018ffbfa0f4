"""An offline Azure OpenAI batch service: files and batches of all dialects, on this machine only.

A second reading of the service's documentation: it shares no code with the client, so that the client's tests do not
prove only that the client agrees with itself. Needs the extra `emulator`.
"""

from batchkit.emulator.serve import Emulator

__all__ = ["Emulator"]
