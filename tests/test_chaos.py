"""Training withstands what `make chaos` does to it: every experiment, a quarter of the kills.

Of two hosts one is lost, and not each in turn; of two sizes of disks one is full.
"""

import chaos
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return chaos.Workshop(tmp_path_factory.mktemp("chaos"), lanes=(1,), kills=5)


@pytest.mark.parametrize("experiment", chaos.EXPERIMENTS, ids=lambda function: function.__name__)
def test_nothing_is_lost(experiment, workshop):
    found = experiment(workshop)
    assert found.tried > 0
    assert found.lost == 0, found.remark


def test_what_is_compared_holds_all_that_training_changes(workshop):
    names = workshop.whole.keys()
    assert "history.csv" in names
    for part in ("layers/", "optimizer/vars/"):
        for model in ("best.keras", "last.keras"):
            assert any(name.startswith(f"{model}/{part}") for name in names)


def test_another_seed_ends_otherwise(workshop, tmp_path):
    """The comparison can fail."""
    run = tmp_path / "run"
    assert chaos.train(run, "--seed", "1").status == 0
    assert "ended otherwise" in workshop.difference(run)
