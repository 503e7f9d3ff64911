"""The audit of graders: it finds the weaknesses that a policy would exploit, before training.

The panel grades completions that are known to deserve full marks or nothing. Each probe (`rft.auditing.probes`)
compares their rewards with the deserved ones. An audit needs no model.
"""
