"""From an entry of the configuration to a grader: its target, its options and how it is called."""
