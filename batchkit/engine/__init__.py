"""What moves jobs: it alone knows leases, and all the rooms."""
