"""Which processes use a mount: those that hang in it, and those that hold it."""
