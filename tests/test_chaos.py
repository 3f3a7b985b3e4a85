"""Training withstands kills, signals, full disks and a lost host, as real processes.

The first experiments of `make chaos`, a fifth of the kills. The others repeat what tests of
training, runs and checks prove.
"""

import chaos
import pytest
from chaos_workshop import difference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return chaos.Workshop(tmp_path_factory.mktemp("chaos"), lanes=(1,), kills=4)


@pytest.mark.parametrize("experiment", chaos.IN_CI, ids=lambda function: function.__name__)
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
    # The comparison can fail: one array or one row that differs is another end.
    run = workshop.folder / "whole"
    assert difference(run, workshop.whole) == ""
    weights = next(name for name in names if name.startswith("last.keras/layers/"))
    for name in ("history.csv", weights):
        other = {**workshop.whole, name: b"other"}
        assert f"1 differ, such as {name}" in difference(run, other)
