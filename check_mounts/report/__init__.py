"""Judged -> text for people, monitoring servers and programs."""
