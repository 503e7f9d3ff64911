"""All probes of environments, in the order of their runs."""

from rft.auditing.environments.probes import answers, cost, free, leftovers, repeats, texts

PROBES = (*repeats.PROBES, *answers.PROBES, *free.PROBES, *texts.PROBES, *leftovers.PROBES, *cost.PROBES)
"""`cost` comes last, because it starts the processes of a whole run."""

__all__ = ["PROBES"]
