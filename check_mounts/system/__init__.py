"""The services of the operating system; nothing here knows of mounts."""
