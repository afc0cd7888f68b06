"""A survey -> how bad it is. Pure."""
