from rft.api.audit import Audit as Audit
from rft.api.audit import audit as audit
from rft.api.certify import certify as certify
from rft.api.check import check as check
from rft.api.compare import compare as compare
from rft.api.continue_run import continue_run as continue_run
from rft.api.evaluate import Measurement as Measurement
from rft.api.evaluate import evaluate as evaluate
from rft.api.feasibility import Feasibility as Feasibility
from rft.api.feasibility import feasibility as feasibility
from rft.api.grade import Grading as Grading
from rft.api.grade import grade as grade
from rft.api.pairs import Pairs as Pairs
from rft.api.pairs import pairs as pairs
from rft.api.parts import Parts as Parts
from rft.api.parts import parts as parts
from rft.api.pipeline import PipelineRun as PipelineRun
from rft.api.pipeline import run_pipeline as run_pipeline
from rft.api.run import Run as Run
from rft.api.run import open_run as open_run
from rft.api.sample import sample as sample
from rft.api.train import train as train
from rft.api.verify import verify as verify
from rft.api.view import view as view
from rft.run.forecast.plan import Plan as Plan

__version__: str
