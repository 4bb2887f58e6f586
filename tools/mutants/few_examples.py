"""pytest plugin: property tests take few inputs, the same in each run, and no deadline. A score can be repeated."""

from typing import Any

import pytest
from hypothesis import Phase, is_hypothesis_test, settings

EXAMPLES = 20  # inputs of a property test for each mutant; a property that needs more needs a test with an example


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Replace the settings of the property tests. hypothesis has no public way to lower a number that a test sets."""
    for item in items:
        test: Any = getattr(item, "obj", None)
        if is_hypothesis_test(test):
            own = test._hypothesis_internal_use_settings
            test._hypothesis_internal_use_settings = settings(
                own,
                max_examples=min(own.max_examples, EXAMPLES),
                phases=[Phase.explicit, Phase.generate],  # a smaller input that fails is of no interest
                derandomize=True,
                deadline=None,
                database=None,
            )
