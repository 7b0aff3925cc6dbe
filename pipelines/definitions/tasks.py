"""Steps as KFP components; `components.kfp_components` has their signatures."""

from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components import kfp_components
from components.image import IMAGE


def _component(function: Callable[..., Any]) -> BaseComponent:
    made: BaseComponent = dsl.component(function, base_image=IMAGE, install_kfp_package=False)
    return made


prepare_data = _component(kfp_components.prepare_data)
review = _component(kfp_components.review)
reuse = _component(kfp_components.reuse)
pretrain_controller = _component(kfp_components.pretrain_controller)
search = _component(kfp_components.search)
search_worker = _component(kfp_components.search_worker)
train_final = _component(kfp_components.train_final)
profile_latency = _component(kfp_components.profile_latency)
train_references = _component(kfp_components.train_references)
promote = _component(kfp_components.promote)
close_run = _component(kfp_components.close_run)
