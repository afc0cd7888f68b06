"""The command line and the files that hold options -> the options of a run."""
