"""What a run is made from: tasks, rows, worked examples, graders and what they lack, read before anything starts."""
