"""Named entities: texts whose names are marked in place."""
