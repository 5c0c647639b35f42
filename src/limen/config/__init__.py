"""Specs: the JSON-able description of a run, and how objects are made from it."""

from limen.config.base import Built, FieldError, Keeping, Spec, build, help_of, validate
from limen.config.full_batch import FlowSpec, FullBatchSpec, GDSpec, Integration, results_root

__all__ = [
    "Built",
    "FieldError",
    "FlowSpec",
    "FullBatchSpec",
    "GDSpec",
    "Integration",
    "Keeping",
    "Spec",
    "build",
    "help_of",
    "results_root",
    "validate",
]
