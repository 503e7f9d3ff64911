"""Posts in the voice of a house: data and graders."""
