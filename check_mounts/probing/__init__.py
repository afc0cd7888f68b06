"""Mounts -> a survey: what answered, what failed, what hangs."""
