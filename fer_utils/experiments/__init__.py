"""Published tables and figures, run again: a registry of what can be run, the ledger of results, and computed verdicts."""

from .estimates import Estimate, Results
from .faces import find_roles, load_role
from .ledger import Ledger, find_checkpoint, list_ledgers, read_ledger
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
    "Estimate", "Experiment", "ExperimentError", "Ledger", "Outcome", "Result", "Results", "Run", "Setup", "Task", "Verdict",
    "compare_with_paper", "find_checkpoint", "find_experiment", "find_roles", "format_ledger", "judge_claim", "judge_claims",
    "list_experiments", "list_ledgers", "load_role", "read_ledger", "register_experiment", "run_experiment", "run_experiments",
    "score_faces", "score_outcome", "summarise_ledger",
]
