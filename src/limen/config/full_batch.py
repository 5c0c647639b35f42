"""Specs of what trains by the full batch, gd and flow, and how experiments are made from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Interval, Lt, doc

from limen import registry
from limen.config.base import Built, Keeping, Spec, about, network_info, place, safe
from limen.errors import InputError, nearest
from limen.registry.values import Rule

if TYPE_CHECKING:
    from limen.data import Dataset
    from limen.types import Dynamics, Probe

LOSSES = ("ce", "mse")
COSTLY, SAMPLE = 10**8, 10**7
"""Random numbers in a projection: from when on its cost is told, and how many are drawn to tell it."""
GHOST_BATCH = 1000
"""Of the published code, where `physical_batch_size` is not said."""
STABLE = 2.7853
"""alpha beyond which RK4 is unstable on a quadratic."""


def _every(minus_one: str) -> Rule:
    return Rule(f"a positive number of steps, or -1 for {minus_one}", lambda steps: steps == -1 or steps > 0)


NEVER, AT_THE_END, BY_THE_CLOCK = _every("never"), _every("the end only"), _every("about every 30 seconds")


@dataclass(frozen=True, kw_only=True)
class FullBatchSpec(Spec):
    """What every command that trains by the full batch takes."""

    dataset: Annotated[str, doc("Data set (`limen data` lists them), or your own as module:function.")]
    arch: Annotated[str, doc("Network, such as fc-tanh or cnn-relu, or your own as module:function.")]
    loss: Annotated[str, doc("ce (cross-entropy) or mse (half the squared distance).")]
    physical_batch_size: Annotated[
        int | None,
        Ge(1),
        doc(
            "Examples on the device at once; BatchNorm's ghost batch (default: 1000, or what suits the network)."
        ),
    ] = None
    acc_goal: Annotated[
        float | None, Interval(ge=0, le=1), doc("Stop when the training accuracy exceeds this.")
    ] = None
    loss_goal: Annotated[float | None, doc("Stop when the training loss is below this.")] = None
    neigs: Annotated[int, Ge(0), doc("How many top Hessian eigenvalues to track.")] = 0
    eig_freq: Annotated[int, NEVER, doc("Measure them every so many steps (-1: never).")] = -1
    nproj: Annotated[int, Ge(0), doc("How many random projections of the iterates to keep.")] = 0
    iterate_freq: Annotated[int, NEVER, doc("Project every so many steps (-1: never).")] = -1
    save_freq: Annotated[
        int, AT_THE_END, doc("Write the published result files every so many steps (-1: at the end).")
    ] = -1
    abridged_size: Annotated[
        int, Ge(1), doc("Take the Hessian over the first so many training examples.")
    ] = 5000
    save_model: Annotated[bool, doc("Write the final weights as snapshot_final, a state_dict.")] = False
    test_freq: Annotated[int, NEVER, doc("Evaluate the test set every so many steps (-1: never).")] = 1
    eig_tol: Annotated[float, Gt(0), Lt(1), doc("Relative tolerance on each eigenvalue.")] = 1e-3
    eig_above: Annotated[
        float | None, Gt(0), doc("Follow every eigenvalue above this fraction of the threshold as well.")
    ] = None
    audit_freq: Annotated[
        int, NEVER, doc("Audit the eigenvalues from a random vector every so many measurements (-1: never).")
    ] = 10
    audit_steps: Annotated[int, Ge(2), doc("Lanczos steps of an audit.")] = 30
    projection: Annotated[
        Literal["gaussian", "sketch"],
        doc("gaussian: the published numbers. sketch: keeps norms, costs less."),
    ] = "gaussian"
    dtype: Annotated[Literal["float32", "float64"], doc("Precision of weights and data.")] = "float32"
    results: Annotated[str | None, doc("Folder of results (default: $RESULTS, else results).")] = None
    checkpoint_freq: Annotated[
        int, BY_THE_CLOCK, doc("Checkpoint every so many steps (-1: about every 30 seconds).")
    ] = -1
    model: Annotated[dict[str, Any], doc("Further arguments of the network: --model.width 400.")] = field(
        default_factory=dict
    )
    data: Annotated[dict[str, Any], doc("Further arguments of the data set: --data.n 500.")] = field(
        default_factory=dict
    )

    def check(self) -> None:
        """Refuse what can be refused without loading anything.

        Raises:
            InputError: a name is unknown, or two values do not go together.
        """
        for field_, kind, name in (("dataset", "data", self.dataset), ("arch", "models", self.arch)):
            with about(field_):
                if not registry.is_import_path(name):
                    registry.find(kind, name)
        for field_, kind, name in (("data", "data", self.dataset), ("model", "models", self.arch)):
            with about(field_):
                registry.check_arguments(kind, name, getattr(self, field_))
        with about("loss"):
            if self.loss not in LOSSES:
                raise InputError(
                    f"unknown loss {self.loss!r}.{nearest(self.loss, LOSSES)} There are: ce, mse."
                )

    def with_types(self) -> Self:
        """Return the spec with the arguments of network and data set as what their families say they are."""
        return dataclasses.replace(
            self,
            model=registry.check_arguments("models", self.arch, self.model),
            data=registry.check_arguments("data", self.dataset, self.data),
        )

    def root(self) -> Path:
        """Return the folder of results."""
        return results_root(self.results)

    def folder(self, *, ghost_batches: bool = False) -> Path:
        """Return the run's folder, which spells out all that changes the trajectory (DESIGN: a run on disk).

        Args:
            ghost_batches: whether the network's loss depends on `physical_batch_size`.
        """
        path = self.root() / safe(self.dataset) / safe(self.arch) / f"seed_{self.seed}" / self.loss
        model = registry.without_defaults("models", self.arch, self.model)
        data = registry.without_defaults("data", self.dataset, self.data)
        settings: dict[str, Any] = {f"model.{key}": value for key, value in model.items()}
        settings |= {f"data.{key}": value for key, value in data.items()}
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        watched = list(self.watched())
        if ghost_batches and self.physical_batch_size != GHOST_BATCH:
            watched.append("physical_batch_size")
        settings |= {name: getattr(self, name) for name in watched if getattr(self, name) != defaults[name]}
        parent, leaf = self.leaf()
        suffix = "".join(f"__{key}={safe(str(settings[key]))}" for key in sorted(settings))
        return path / parent / f"{leaf}{suffix}"

    def surest_folder(self) -> Path:
        """Return the run's folder; whether the network normalises over a chosen batch, only the network can tell."""
        return self.folder() if self.physical_batch_size is None else self.build().folder

    def looks(self) -> list[int]:
        """Return every how many steps the rarer measurements are taken."""
        rare = [(self.neigs, self.eig_freq), (self.nproj, self.iterate_freq), (1, self.test_freq)]
        return [every for count, every in rare if count and every > 1]

    def leaf(self) -> tuple[str, str]:
        """Return the last two folder names, before the settings."""
        raise NotImplementedError

    def watched(self) -> tuple[str, ...]:
        """Return the fields beyond the path's own that change the trajectory."""
        return ("dtype",)

    def dynamics(self) -> Dynamics:
        """Return the rule of motion."""
        raise NotImplementedError

    def compared(self) -> dict[str, int]:
        """Return the branches of the dynamics, and how many steps apart each is compared with the main one."""
        return {}

    def idle(self) -> dict[str, str]:
        """Return fields that have no effect beside the others, and what would give them one."""
        return {}

    def steps(self) -> int:
        """Return the number of steps of the dynamics."""
        raise NotImplementedError

    def build(self) -> Built:
        """Load the data, build the network and put the experiment together."""
        import torch

        from limen import data as datasets
        from limen import models
        from limen.objectives import Supervised
        from limen.run import Experiment, Goals

        device = place(self.device)
        dtype = getattr(torch, self.dtype)
        data = datasets.load(self.dataset, self.data, self.data_dir)
        if self.acc_goal is not None and data.classes is None:
            raise InputError(
                f"acc_goal needs a classification; {self.dataset} is a regression, where accuracy is undefined. "
                "Use --loss_goal."
            )
        module = models.build(
            self.arch,
            input_shape=data.input_shape,
            outputs=data.outputs,
            seed=self.seed,
            arguments=self.model,
        )
        objective = Supervised(
            module,
            data.inputs,
            data.targets,
            self.loss,
            test=(data.test_inputs, data.test_targets) if self.test_freq > 0 else None,
            physical_batch_size=self.physical_batch_size,
            device=device,
            dtype=dtype,
        )
        if self.neigs > objective.dim:
            raise InputError(
                f"neigs: expected at most {objective.dim}, the number of parameters of {self.arch}, "
                f"got {self.neigs}."
            )
        dynamics = self.dynamics()
        experiment = Experiment(
            objective,
            dynamics,
            self.steps(),
            _probes(self, data, dynamics),
            stop=Goals(self.loss_goal, self.acc_goal),
        )
        experiment.begin()  # probes refuse what does not fit before a folder is made
        folder = self.folder(ghost_batches=objective.ghost_batches)
        info = {
            "data_hash": data.digest(),
            **network_info(data.inputs, data.outputs),
            "ghost_batches": objective.ghost_batches,
            "physical_batch_size": objective.chunk_size,
        }
        keeping = Keeping(self.checkpoint_freq, self.save_freq, self.save_model)
        return Built(experiment, folder, info, [*_notes(self), *_cost(self, objective.dim)], keeping)


@dataclass(frozen=True, kw_only=True)
class Integration(FullBatchSpec):
    """How a gradient flow is integrated."""

    integrator: Annotated[
        Literal["auto", "ndf", "rkc2", "rk4"], doc("Of the gradient flow; auto changes over when need be.")
    ] = "auto"
    rtol: Annotated[
        float, Gt(0), Lt(1), doc("Relative tolerance on the flow's parameters, per internal step.")
    ] = 1e-5

    def flow(self, tick: float, rtol: float, **steps: float) -> Dynamics:
        """Return the gradient flow, observed every `tick`."""
        from limen.dynamics.gradient_flow import GradientFlow

        return GradientFlow(tick, self.integrator, rtol, **steps)


@dataclass(frozen=True, kw_only=True)
class GDSpec(Integration):
    """Full-batch descent: gd, Polyak, Nesterov, or any descent rule in `dynamics/`."""

    COMMAND: ClassVar[str] = "gd"
    POSITIONAL: ClassVar[tuple[str, ...]] = ("dataset", "arch", "loss", "lr", "max_steps")

    lr: Annotated[float, Gt(0), doc("Learning rate.")]
    max_steps: Annotated[int, Ge(1), doc("Number of steps.")]
    opt: Annotated[str, doc("Rule: gd, polyak, nesterov, or your own as module:function.")] = "gd"
    beta: Annotated[float | None, doc("Momentum, for polyak and nesterov.")] = None
    track_flow: Annotated[
        bool,
        doc("Integrate the gradient flow from the same start on the same clock, and record the distance."),
    ] = False
    track_freq: Annotated[int, Ge(1), doc("With track_flow: compare the two every so many steps.")] = 10

    def check(self) -> None:
        """Refuse what can be refused without loading anything."""
        super().check()
        if registry.is_import_path(self.opt):
            return
        with about("opt"):
            family, _ = registry.find("dynamics", self.opt)
            if "lr" not in family.arguments:
                raise InputError(f"{self.opt} is no descent rule. Use limen flow for the gradient flow.")
        with about("track_flow"):
            if self.track_flow and self.opt != "gd":
                raise InputError(
                    f"track_flow compares gradient descent with its flow; {self.opt} has another limit. Use --opt gd."
                )
        if "beta" in family.arguments:
            if self.beta is None:
                raise InputError(
                    f"--opt {self.opt} needs a momentum: add --beta, a number in [0, 1) such as 0.9."
                )
            with about("beta"):
                if not 0 <= self.beta < 1:
                    raise InputError(
                        f"beta (the momentum of {self.opt}): expected a number in [0, 1), got {self.beta}."
                    )

    def leaf(self) -> tuple[str, str]:
        """Return `<opt>` and `lr_<lr>[_beta_<beta>]`."""
        beta = f"_beta_{float(self.beta)}" if self.beta is not None and "beta" in self._hyper() else ""
        return safe(self.opt), f"lr_{float(self.lr)}{beta}"

    def _hyper(self) -> dict[str, float]:
        own = registry.is_import_path(self.opt)
        takes = ("lr", "beta") if own else registry.find("dynamics", self.opt)[0].arguments
        hyper = {"lr": self.lr, "beta": self.beta}
        return {key: value for key, value in hyper.items() if key in takes and value is not None}

    def dynamics(self) -> Dynamics:
        """Return the descent rule, together with the flow where that is tracked."""
        from limen.dynamics import Together, make

        rule = make(self.opt, self._hyper())
        return (
            Together(rule, {"flow": self.flow(self.lr * self.track_freq, self.rtol)})
            if self.track_flow
            else rule
        )

    def compared(self) -> dict[str, int]:
        """Return the flow's branch where it is tracked."""
        return {"flow": self.track_freq} if self.track_flow else {}

    def idle(self) -> dict[str, str]:
        """Return what concerns the flow where none is tracked."""
        return {} if self.track_flow else dict.fromkeys(("integrator", "rtol", "track_freq"), "--track_flow")

    def steps(self) -> int:
        """Return `max_steps`."""
        return self.max_steps


@dataclass(frozen=True, kw_only=True)
class FlowSpec(Integration):
    """Gradient flow θ' = −∇L(θ): the limit of descent as its learning rate goes to zero."""

    COMMAND: ClassVar[str] = "flow"
    POSITIONAL: ClassVar[tuple[str, ...]] = ("dataset", "arch", "loss", "tick", "max_time")

    tick: Annotated[float, Gt(0), doc("Time between two records.")]
    max_time: Annotated[float, Gt(0), doc("Time to integrate to; the last record is one tick before.")]
    alpha: Annotated[float, Gt(0), doc("rk4: internal step = alpha / sharpness, at most max_step_size.")] = (
        1.0
    )
    max_step_size: Annotated[float, Gt(0), doc("rk4: largest internal step.")] = 999.0
    beta: Annotated[float | None, doc("Accepted and ignored, as the published command does.")] = None
    certify: Annotated[
        bool, doc("Integrate at rtol / 10 as well, and record how far the two are apart: the error.")
    ] = False

    def check(self) -> None:
        """Refuse what can be refused without loading anything."""
        super().check()
        with about("max_time"):
            if not 1 <= self.max_time / self.tick * (1 + 1e-12) < 2**53:
                raise InputError(
                    f"max_time: expected from one tick of {self.tick} to 2^53 of them, got {self.max_time}. "
                    "Let tick be a share of max_time."
                )
        with about("alpha"):
            if self.integrator == "rk4" and self.alpha > STABLE:
                raise InputError(
                    f"alpha: expected at most {STABLE}, beyond which rk4 is unstable (steps of {STABLE} / sharpness), "
                    f"got {self.alpha}."
                )
        with about("certify"):
            if self.certify and self.integrator == "rk4":
                raise InputError(
                    "certify compares two tolerances, and rk4 has none (its step is alpha / sharpness). "
                    "Use --integrator auto, ndf or rkc2."
                )

    def leaf(self) -> tuple[str, str]:
        """Return `flow` and `tick_<tick>`."""
        return "flow", f"tick_{float(self.tick)}"

    def watched(self) -> tuple[str, ...]:
        """Return the fields beyond the path's own that change the trajectory."""
        own = ("alpha", "max_step_size") if self.integrator == "rk4" else ("rtol",)
        return (*super().watched(), "integrator", *own)

    def dynamics(self) -> Dynamics:
        """Return the gradient flow, together with a tighter one where it is certified."""
        from limen.dynamics import Together

        steps = {"alpha": self.alpha, "max_step_size": self.max_step_size}
        flow, tighter = (self.flow(self.tick, rtol, **steps) for rtol in (self.rtol, self.rtol / 10))
        return Together(flow, {"tighter": tighter}) if self.certify else flow

    def compared(self) -> dict[str, int]:
        """Return the tighter branch where the flow is certified."""
        return {"tighter": 1} if self.certify else {}

    def idle(self) -> dict[str, str]:
        """Return what concerns another integrator."""
        if self.integrator == "rk4":
            return {"rtol": "another integrator"}
        return dict.fromkeys(("alpha", "max_step_size"), "--integrator rk4")

    def steps(self) -> int:
        """Return how many ticks fit into `max_time`, however their quotient rounds."""
        return int(self.max_time / self.tick * (1 + 1e-12))


def results_root(results: str | None) -> Path:
    """Return the folder of results: the one named, else $RESULTS, else `results`."""
    return Path(results or os.environ.get("RESULTS") or "results")


def _cost(spec: FullBatchSpec, dim: int) -> list[str]:
    """Say what one dense projection costs where that is much, by the time that a small share of it takes."""
    numbers = spec.nproj * dim
    if spec.iterate_freq < 1 or spec.projection != "gaussian" or numbers <= COSTLY:
        return []
    import torch

    from limen.linalg.projection import gaussian_projection

    rows = max(1, min(spec.nproj, SAMPLE // dim))
    began = perf_counter()
    gaussian_projection(torch.zeros(dim), rows)
    seconds = (perf_counter() - began) * spec.nproj / rows
    times = -(-spec.steps() // spec.iterate_freq)
    return [
        f"--nproj {spec.nproj} of {dim} parameters draws {numbers:.2g} random numbers, about {seconds:.2g} s a "
        f"measurement, and there are up to {times}: --projection sketch costs far less and keeps norms, "
        "a larger --iterate_freq measures less often."
    ]


def _probes(spec: FullBatchSpec, data: Dataset, dynamics: Dynamics) -> list[Probe]:
    from limen.probes import Distance, Eigs, Iterates, Test, Train
    from limen.types import Schedule

    probes: list[Probe] = [Train()]
    if spec.test_freq > 0:
        probes.append(Test(Schedule(spec.test_freq)))
    if spec.neigs > 0 and spec.eig_freq > 0:
        size = spec.abridged_size if spec.abridged_size < len(data.inputs) else None
        threshold = dynamics.threshold()
        if spec.eig_above is not None and threshold is None:
            raise InputError(f"eig_above is a fraction of the threshold, and {dynamics.name} has none.")
        above = None if spec.eig_above is None or threshold is None else spec.eig_above * threshold
        every = Schedule(spec.eig_freq)
        probes.append(
            Eigs(spec.neigs, every, size, spec.eig_tol, spec.seed, spec.audit_freq, spec.audit_steps, above)
        )
    if spec.nproj > 0 and spec.iterate_freq > 0:
        probes.append(Iterates(spec.nproj, Schedule(spec.iterate_freq), spec.projection))
    probes += [Distance(branch, Schedule(every)) for branch, every in spec.compared().items()]
    return probes


def _notes(spec: FullBatchSpec) -> list[str]:
    pairs: Iterable[tuple[str, int, str, int]] = (
        ("neigs", spec.neigs, "eig_freq", spec.eig_freq),
        ("nproj", spec.nproj, "iterate_freq", spec.iterate_freq),
    )
    notes = []
    for count_name, count, freq_name, freq in pairs:
        if count > 0 > freq:
            notes.append(
                f"--{count_name} {count} without --{freq_name}: nothing will be measured; "
                f"add for example --{freq_name} 50."
            )
        if freq > 0 == count:
            notes.append(
                f"--{freq_name} {freq} without --{count_name}: nothing will be measured; "
                f"add for example --{count_name} 2."
            )
    for name, needs in spec.idle().items():
        if getattr(spec, name) != getattr(type(spec), name):
            notes.append(f"--{name} {getattr(spec, name)} has no effect without {needs}.")
    for branch, every in spec.compared().items():
        if every >= spec.steps():
            notes.append(
                f"the distance to the {branch} is taken every {every} steps, and there are {spec.steps()}: only the "
                "start will be compared. Take it more often (--track_freq) or make more steps."
            )
    return notes
