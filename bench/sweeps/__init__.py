"""How a figure moves with something: what the plots show."""
