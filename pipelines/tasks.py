"""The steps as KFP components; `components.declared` has their signatures."""

from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components import declared
from components.image import IMAGE


def _component(function: Callable[..., Any]) -> BaseComponent:
    made: BaseComponent = dsl.component(function, base_image=IMAGE, install_kfp_package=False)
    return made


prepare_data = _component(declared.prepare_data)
review = _component(declared.review)
reuse = _component(declared.reuse)
pretrain_controller = _component(declared.pretrain_controller)
search = _component(declared.search)
search_worker = _component(declared.search_worker)
train_final = _component(declared.train_final)
profile_latency = _component(declared.profile_latency)
promote = _component(declared.promote)
close_run = _component(declared.close_run)
