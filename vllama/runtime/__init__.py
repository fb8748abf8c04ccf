"""Where engines run: the Runtime interface, and the places that implement it."""
