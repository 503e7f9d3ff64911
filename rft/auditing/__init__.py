"""The audit of graders: what would a policy under training find out about them, before it does?

Completions that are known to deserve full marks, or nothing, go through the panel; each probe (`rft.auditing.probes`)
looks at what they earned. No model is needed.
"""
