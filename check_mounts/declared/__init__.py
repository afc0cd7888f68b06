"""What should be mounted -> what differs from that."""
