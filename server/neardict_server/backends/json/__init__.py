"""Keeps each entry in a readable file, `root_dir/segment/segment/key.json`: the layout of the Moobius SDK.

For people who look at their data, edit it, and compare it: what is changed by hand is seen by the next
request, and by those who watch within a moment. See docs/json.md for names, contents and what happens
when somebody else writes too.
"""

from .backend import JsonBackend

__all__ = ["JsonBackend"]
