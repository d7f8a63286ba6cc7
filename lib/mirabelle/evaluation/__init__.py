"""How good a classifier is, and fair ways to hold pictures out.

Driver only; touches nothing: arrays and frames in, arrays and frames out. Whatever learns, Spark ML or a network,
learns from the rows that ``choose_sides`` says.
"""

from mirabelle.evaluation.chaining import (
    COARSE,
    FINE,
    NOT_SURE,
    Said,
    Thresholds,
    answer,
    chain,
    choose_thresholds,
    judge_chain,
    pair,
)
from mirabelle.evaluation.comparing import Answers, Standing, compare
from mirabelle.evaluation.doubts import Doubt, find_doubts
from mirabelle.evaluation.grouping import FOLD, SIDE, group_rows
from mirabelle.evaluation.metrics import Metrics, confused_pairs, evaluate
from mirabelle.evaluation.splitting import Sides, SplitBy, choose_sides

__all__ = [
    "COARSE",
    "FINE",
    "FOLD",
    "NOT_SURE",
    "SIDE",
    "Answers",
    "Doubt",
    "Metrics",
    "Said",
    "Sides",
    "SplitBy",
    "Standing",
    "Thresholds",
    "answer",
    "chain",
    "choose_sides",
    "choose_thresholds",
    "compare",
    "confused_pairs",
    "evaluate",
    "find_doubts",
    "group_rows",
    "judge_chain",
    "pair",
]
