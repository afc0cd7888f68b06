"""What watches a run from outside, and what it leaves for the next one."""
