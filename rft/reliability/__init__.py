"""Files that survive a crash, and the stacks of a process on request. Standard library only."""
