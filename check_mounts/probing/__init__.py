"""Turns mounts into a survey: which answered, which failed, which hang."""
