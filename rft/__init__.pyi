from rft.api.run import Run as Run
from rft.api.run import open_run as open_run

__version__: str
