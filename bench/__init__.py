"""Measures the service and the dict against their peers: `make bench`. docs/performance.md has results."""
