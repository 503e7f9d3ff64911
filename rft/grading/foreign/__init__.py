"""Graders that were written for other frameworks: OpenAI's JSON graders, and functions in 17 dialects."""
