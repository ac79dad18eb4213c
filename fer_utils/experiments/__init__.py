"""Published tables and figures, run again: a registry of what can be run, the ledger of results, and computed verdicts."""

from .estimates import Estimate, Results
from .faces import find_roles, load_role
from .ledger import Ledger, find_checkpoint, list_ledgers, read_ledger
from .published import Cell, Claim, Comparison, list_published, load_published
from .recipe import Profile, Recipe, scale
from .registry import (
    Experiment,
    Outcome,
    Result,
    Run,
    Setup,
    Task,
    find_experiment,
    list_experiments,
    register_experiment,
    score_faces,
    score_outcome,
)
from .running import ExperimentError, run_experiment, run_experiments
from .verdicts import Verdict, compare_with_paper, format_ledger, judge_claim, judge_claims, summarise_ledger

__all__ = [
    "Cell", "Claim", "Comparison", "Estimate", "Experiment", "ExperimentError", "Ledger", "Outcome", "Profile", "Recipe",
    "Result", "Results", "Run", "Setup", "Task", "Verdict", "compare_with_paper", "find_checkpoint", "find_experiment",
    "find_roles", "format_ledger", "judge_claim", "judge_claims", "list_experiments", "list_ledgers", "list_published",
    "load_published", "load_role", "read_ledger", "register_experiment", "run_experiment", "run_experiments", "scale",
    "score_faces", "score_outcome", "summarise_ledger",
]
