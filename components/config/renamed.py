"""Settings that were renamed, old dotted key to new dotted key: one table, for this release only.

A configuration that still has the old key is refused with the new one in the message.
"""

from itertools import product

_COMMON = (
    "device",
    "flip",
    "crop_padding",
    "cutout",
    "min_lr",
    "weight_decay",
    "max_grad_norm",
)
_AUGMENTATION = ("flip", "crop_padding", "cutout")

RENAMED: dict[str, str] = {
    "search.space.branches": "search.space.operations",
    "promote.model_name": "registry.model",
    **{
        f"{old}.{name}": f"training.{name}"
        for old, name in product(("train", "search.child"), _COMMON)
    },
    **{f"search.options.weights.{name}": f"training.{name}" for name in _AUGMENTATION},
    **{f"search.options.pretraining.{name}": f"training.{name}" for name in _COMMON[:3]},
    **{
        f"search.options.{old}": f"search.options.{new}"
        for old, new in {
            "reward_batch": "eval_batch_size",
            "judge_batch": "eval_batch_size",
            "max_weightless": "max_parameterless_edges",
            "logits.reach": "max_logit_change",
            "schedule.shortest": "schedule.min_steps",
            "schedule.longest": "schedule.max_steps",
            "schedule.least": "schedule.min_explore_fraction",
            "schedule.most": "schedule.max_explore_fraction",
            "schedule.hot": "schedule.temperature_start",
            "schedule.cold": "schedule.temperature_end",
            "keep": "final_keep_prob",
            "drop_from": "drop_start",
            "points_from": "points_start",
            "controller.decay_after": "controller.lr_decay_every",
            **{
                f"coder.{name}": f"autoencoder.{name}"
                for name in ("steps", "batch_size", "lr", "num_strings", "hidden_size")
            },
            "state_changes": "expected_state_mutations",
            "num_moves": "expected_coordinate_moves",
            "l2": "controller_weight_decay",
            "random_state": "random_state_share",
            "best_state": "best_state_share",
            **{
                f"{block}.{old}": new
                for block in ("meta", "final")
                for old, new in {
                    "train_shots": "episode.train_shots",
                    "turned": "episode.rotate_classes",
                    "transductive": "episode.transductive",
                    "judge_steps": "meta.eval_inner_steps",
                }.items()
            },
            **{
                f"final.{name}": f"meta.{name}"
                for name in (
                    "learner",
                    "tasks",
                    "outer_lr",
                    "inner_lr",
                    "inner_steps",
                    "last_layer",
                )
            },
            "four_convolutions.inner_lr": "conv4_baseline.inner_lr",
            "four_convolutions.judge_steps": "conv4_baseline.eval_inner_steps",
            "progressive.first": "progressive.num_first_stage",
            "progressive.top": "progressive.top_k",
            "progressive.quota": "progressive.num_random",
            "progressive.ensemble": "progressive.num_predictors",
        }.items()
    },
}
