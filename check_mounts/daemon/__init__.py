"""The loop that checks again and again, and what it needs besides checking."""
