"""The base model and an adapter on disk: which models rft knows, where they lie, and whether they are whole."""
