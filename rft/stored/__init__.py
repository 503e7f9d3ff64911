"""A run's copy in storage: kept up while the run goes on, and fetched where the run is to go on."""

from rft.stored.copying import Copier
from rft.stored.fetching import check_copy, fetch_run
from rft.stored.layout import State
from rft.stored.store import Store

__all__ = ["Copier", "State", "Store", "check_copy", "fetch_run"]
