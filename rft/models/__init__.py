"""Base models and adapters on disk: known architectures, locations and completeness."""
