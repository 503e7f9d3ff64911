"""Numbers: a step's metrics, intervals, and the signs that a run has no signal or games its grader."""
