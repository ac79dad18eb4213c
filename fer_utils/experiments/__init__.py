"""Published tables and figures, run again: a registry of what can be run, the ledger of results, and computed verdicts."""

from .context import RunContext
from .estimates import Estimate, LedgerReader
from .faces import find_roles, load_role
from .ledger import Ledger, find_checkpoint, list_ledgers, read_ledger
from .published import Cell, Claim, Comparison, load_published
from .recipe import Profile, Recipe, scale
from .registry import Experiment, Run, Setup, find_experiment, list_experiments, register_experiment
from .running import ExperimentError, run_experiment, run_experiments, run_until_width
from .scores import Score, score_faces, score_predictions
from .tie import find_stale, list_differences
from .verdicts import Verdict, compare_with_paper, format_ledger, judge_claim, judge_claims, summarise_ledger, tabulate_verdicts
from .verifying import verify_experiment

__all__ = [
    "Cell", "Claim", "Comparison", "Estimate", "Experiment", "ExperimentError", "Ledger", "LedgerReader", "Profile", "Recipe", "Run",
    "RunContext", "Score", "Setup", "Verdict", "compare_with_paper", "find_checkpoint", "find_experiment", "find_roles", "find_stale",
    "format_ledger", "judge_claim", "judge_claims", "list_differences", "list_experiments", "list_ledgers", "load_published",
    "load_role", "read_ledger", "register_experiment", "run_experiment", "run_experiments", "run_until_width", "scale", "score_faces",
    "score_predictions", "summarise_ledger", "tabulate_verdicts", "verify_experiment",
]
