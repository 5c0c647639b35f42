"""Hidden units of any traceable network, and the sets of networks that training cannot leave."""

from limen.symmetry.actions import duplicate, permute, rescale, silence
from limen.symmetry.check import exchange_gap
from limen.symmetry.groups import Invariance, NeuronGroup, Slot, neuron_groups
from limen.symmetry.merge import Merged, merge
from limen.symmetry.sets import (
    InvariantSet,
    PermutationSet,
    SignSet,
    Tangency,
    check_tangent,
    normal_component,
    put,
    put_on_permutation_set,
    put_on_sign_set,
)

__all__ = [
    "Invariance",
    "InvariantSet",
    "Merged",
    "NeuronGroup",
    "PermutationSet",
    "SignSet",
    "Slot",
    "Tangency",
    "check_tangent",
    "duplicate",
    "exchange_gap",
    "merge",
    "neuron_groups",
    "normal_component",
    "permute",
    "put",
    "put_on_permutation_set",
    "put_on_sign_set",
    "rescale",
    "silence",
]
