"""Loads the fault plan into every Python process of a run: Python imports this module when it starts."""

import os

if os.environ.get("RFT_FAULT_PLAN"):
    import fault_plan

    fault_plan.install()
