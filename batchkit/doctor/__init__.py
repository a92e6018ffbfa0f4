"""Is everything fit for work? Each thing that a job meets, looked at in the order in which it meets them."""

from __future__ import annotations

from batchkit.doctor.examine import Patient, consult

__all__ = ["Patient", "consult"]
