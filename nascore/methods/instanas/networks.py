"""Meta-graph and controller of a search, before it: untrained, and from the pre-training."""

from typing import Any, cast

from nascore import checkpoint
from nascore.context import SearchContext, device_of
from nascore.errors import CheckpointError
from nascore.methods.common import one_shot_loop
from nascore.methods.common.one_shot_loop import identity_of
from nascore.methods.instanas.controller import PolicyNetwork, make_policy_network
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training.resumable import TrainingCheckpoint

Context = SearchContext[InstanasOptions]

PRETRAINED = "metagraph.ckpt"
_KIND = "instanas-pretraining"


def space_of(context: Context) -> MobileSpace:
    """Return the space of a search, which is the only one that InstaNAS takes."""
    return cast(MobileSpace, context.space)


def new_graph(context: Context) -> MetaGraph:
    """Return the untrained meta-graph."""
    seed = context.seeds.integer("meta-graph")
    return make_metagraph(space_of(context), context.shape, seed=seed)


def new_controller(context: Context, graph: MetaGraph) -> PolicyNetwork:
    """Return the untrained controller of a meta-graph."""
    return make_policy_network(
        context.shape.channels,
        graph.policy_shape,
        seed=context.seeds.integer("controller"),
        **context.options.controller.widths,
    )


def pretraining_checkpoint(context: Context) -> TrainingCheckpoint:
    """Return the checkpoint of a pre-training that is running."""
    return TrainingCheckpoint(
        context.state / PRETRAINED,
        _KIND,
        identity(context),
        every_s=one_shot_loop.CHECKPOINT_EVERY_S,
    )


def load_graph(context: Context) -> MetaGraph:
    """Return the meta-graph as the pre-training left it, on the device of the search.

    Raises:
        CheckpointError: there is none.
        InputError: it is damaged, or of another search.
    """
    graph = new_graph(context)
    path = context.controller / PRETRAINED
    found = TrainingCheckpoint(path, _KIND, identity(context), every_s=0.0).load()
    if found is None:
        raise CheckpointError(
            f"{context.controller} contains no meta-graph; run the step pretrain_controller again"
        )
    graph.load_state_dict(checkpoint.below("weights.", found[0]))
    return graph.to(device_of(context.training))


def identity(context: Context, **more: Any) -> dict[str, Any]:
    """Return what a checkpoint must have been made with to be continued by this search."""
    return identity_of(context, exclude=frozenset({"baseline"}), **more)
