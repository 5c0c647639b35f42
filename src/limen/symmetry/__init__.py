"""Hidden units of any traceable network, and the sets of networks that training cannot leave."""

from limen.symmetry.groups import Invariance, NeuronGroup, Slot, neuron_groups

__all__ = ["Invariance", "NeuronGroup", "Slot", "neuron_groups"]
