"""What a user would pick instead: found on this machine, started, and asked the same."""
