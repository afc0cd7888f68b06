"""A survey -> judgements: how bad each finding is. Pure."""
