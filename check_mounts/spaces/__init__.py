"""The mounts of other mount namespaces: of containers, units and users."""
