"""What tests need around the program: doors, disks, proxies and services that fail on demand, and processes to kill."""
