"""Labels from frames of the simulation equal those that the simulation makes by another way.

Both ways know the same definitions and particles; the code is not shared.
"""

import numpy as np
import pytest

from dnn_reco.data.pulses import Pulses
from dnn_reco.data_creation.labels.cascade_labels import COLUMNS
from dnn_reco.data_creation.labels.modules import MCLabelsCascades
from dnn_reco.i3.frame import Frame
from dnn_reco.simulation.frames import event_frames
from dnn_reco.simulation.labels import STARTING_EXTENSION, labels
from dnn_reco.simulation.particles import ParticleSettings
from dnn_reco.simulation.truth import SimulationTruth, simulate_particles


def q_frames(truth: SimulationTruth) -> list[Frame]:
    number = len(truth.energy)
    integers, floats = np.zeros(0, dtype=np.int64), np.zeros(0)
    pulses = Pulses(number, integers, integers, floats, floats, integers.astype(np.uint8))
    ids = np.zeros(number, [("Run", "u4"), ("Event", "u4"), ("SubEvent", "u4")])
    return [q_frame for q_frame, _ in event_frames(truth, pulses, ids)]


def from_frames(truth: SimulationTruth) -> list[dict[str, float]]:
    module = MCLabelsCascades(extend_boundary=STARTING_EXTENSION)
    return [module.outputs(q_frame)["LabelsDeepLearning"] for q_frame in q_frames(truth)]


@pytest.mark.parametrize(
    ("flavor", "leptons"), [("nue", {11, 12}), ("numu", {13, 14}), ("nutau", {11, 13, 15, 16})]
)
def test_codes_of_particles_and_antiparticles(flavor: str, leptons: set[int]) -> None:
    what = ParticleSettings(flavor=flavor, energy=(100.0, 1e4), margin=200.0)  # type: ignore[arg-type]
    truth, _ = simulate_particles(what, 100, np.random.default_rng(7))
    signs, found = set(), set()
    for q_frame in q_frames(truth):
        tree = q_frame["I3MCTree"]
        codes = tree.particles["pdg"].astype(int)
        sign = np.sign(codes[0])
        signs.add(int(sign))
        # showers of hadrons, and losses of a muon, are their own antiparticles
        known = np.isin(codes, (-2000001006, -2000001002))
        found |= set((sign * codes[~known]).tolist())
        made = tree.particles["energy"][tree.daughters(1)]
        assert made.sum() == pytest.approx(tree.particles["energy"][0])
    assert signs == {-1, 1}
    assert found == leptons


@pytest.mark.parametrize("flavor", ["nue", "numu", "nutau", "muon"])
def test_all_labels_that_the_tree_determines(flavor: str) -> None:
    what = ParticleSettings(flavor=flavor, energy=(100.0, 1e6), margin=200.0)  # type: ignore[arg-type]
    truth, _ = simulate_particles(what, 150, np.random.default_rng(7))
    rows, expected = from_frames(truth), labels(truth)
    assert tuple(expected) == COLUMNS
    for name in COLUMNS:
        values = np.array([row[name] for row in rows])
        # Muons that pass far away are in the list of tracks, but make no track for the simulation.
        far = (truth.muon_energy > 0) & ~truth.muon_passes & (name == "p_is_track")
        np.testing.assert_allclose(values[~far], expected[name][~far], 1e-6, 1e-6, err_msg=name)
