"""Specs: the JSON-able description of a run, and how objects are made from it."""

from limen.config.base import Built, FieldError, Keeping, Spec, build, help_of, validate
from limen.config.full_batch import FlowSpec, FullBatchSpec, GDSpec, Integration, results_root
from limen.config.training import FinetuneSpec, TrainSpec

__all__ = [
    "Built",
    "FieldError",
    "FinetuneSpec",
    "FlowSpec",
    "FullBatchSpec",
    "GDSpec",
    "Integration",
    "Keeping",
    "Spec",
    "TrainSpec",
    "build",
    "help_of",
    "results_root",
    "validate",
]
