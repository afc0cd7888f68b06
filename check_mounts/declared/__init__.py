"""The declared mounts, and how the mounted ones differ from them."""
