"""The neardict service: dispatches storage operations to configured backends."""
