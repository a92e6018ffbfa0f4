"""An offline Azure OpenAI batch service: files and batches of all dialects, on this machine only.

A second reading of the service's documentation: it shares no code with the client, so that the client's tests do not
prove only that the client agrees with itself. Needs the extra `emulator`.
"""

from batchkit.emulator.faults import Fault
from batchkit.emulator.forward import Forward
from batchkit.emulator.replies import Reply
from batchkit.emulator.serve import Emulator
from batchkit.emulator.settings import Deployment, Limits, Pace

__all__ = ["Deployment", "Emulator", "Fault", "Forward", "Limits", "Pace", "Reply"]
