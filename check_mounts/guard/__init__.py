"""Watching a run from outside, and the notes that a run leaves for its watcher and later runs."""
