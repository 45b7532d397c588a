"""`python -m neardict_server` is `neardict serve`."""

from .serve import serve

serve(prog_name="neardict serve")
