"""The description of a run with a result; that of a whole run is in tests/services."""

from components.steps.run_notes import model_link


def test_a_link_to_a_model_version_is_one_of_the_ui():
    assert model_link("models:/my net/3") == "[my net version 3](#/models/my%20net/versions/3)"
