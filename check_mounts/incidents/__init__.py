"""What happened: the records that the daemon keeps, and what ``--incidents`` tells of them."""
