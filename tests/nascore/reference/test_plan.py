from nascore.reference.plan import make_plan, without_comparison


def test_a_short_run_trains_no_network_by_default() -> None:
    plan = make_plan(None, share=1.0, cost_s=59.4, has_fixed_classes=True)
    assert not plan.compares
    assert "took 59 s, less than the 60 s" in plan.reason
    assert make_plan(None, share=1.0, cost_s=60.0, has_fixed_classes=True).compares


def test_named_networks_are_trained_in_every_run() -> None:
    plan = make_plan(("resnet18",), share=0.5, cost_s=8.0, has_fixed_classes=True)
    assert (plan.compares, plan.seconds, plan.names) == (True, 4.0, ("resnet18",))


def test_an_empty_list_and_few_shot_tasks_train_none() -> None:
    assert (
        make_plan((), share=1.0, cost_s=900.0, has_fixed_classes=True).reason == "reference is []"
    )
    assert "few-shot" in make_plan(None, share=1.0, cost_s=900.0, has_fixed_classes=False).reason


def test_without_a_comparison_the_found_network_is_recommended() -> None:
    made = without_comparison("reference is []")
    assert made["recommendation"] == {
        "ship": "found",
        "why": "The found network was compared with no standard network: reference is [].",
    }
