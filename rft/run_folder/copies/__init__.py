"""Copies of a run in storage: updated during the run, and fetched to resume it elsewhere."""

from rft.run_folder.copies.copied_files import State
from rft.run_folder.copies.copying import Copier
from rft.run_folder.copies.fetching import check_copy, fetch_run, holds_checkpoint
from rft.run_folder.copies.store import Store

__all__ = ["Copier", "State", "Store", "check_copy", "fetch_run", "holds_checkpoint"]
