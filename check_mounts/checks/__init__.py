"""One check: look up names, probe, compare, conclude."""
