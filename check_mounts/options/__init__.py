"""Words of the command line and of files -> what a run should do."""
