"""From votes to labels (Li & Deng 2019, sections III-A4 and III-A5).

``ReliabilityEM`` weighs the annotators, ``filter_annotators`` chooses among them, ``soft_labels`` adds up what they say,
``partition_labels`` parts the faces into RAF-DB's two sets, ``cronbach_alpha`` says how well a panel agrees. Votes are a frame ``task,
worker, label``, as in crowd-kit.
"""

from .em import FLAT, ReliabilityEM, Step
from .partition import SETS, partition_labels, soft_labels
from .reliability import cronbach_alpha, filter_annotators

__all__ = ["FLAT", "SETS", "ReliabilityEM", "Step", "cronbach_alpha", "filter_annotators", "partition_labels", "soft_labels"]
