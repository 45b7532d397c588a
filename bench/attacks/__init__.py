"""What one client can do to everybody else: `make attack` tries it, and writes docs/reliability.md.

Each attack is one process that means harm, or does it by mistake, and beside it a probe, another client that
looks up a small value fifty times a second. It should not notice, and the server should give its memory back.
"""
