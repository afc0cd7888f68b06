"""What the operating system gives. Knows no mounts."""
