"""The measures that have a floor, each beside its peer in the same run; `catalogue` lists them."""
