"""Where entries are kept: the interface in `base`, one leaf per engine."""
