"""
The direction of an event as a sky map
======================================

Train a small network for directions, and draw the density that it predicts for one event.
"""

# %%
# A network
# ---------
# The network predicts a von Mises-Fisher density on the sphere.

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dnn_reco import Reconstructor, load_model, open_events
from dnn_reco.display.sky_view import plot_sky
from dnn_reco.inference.sky_frame import Frame

CONFIG = """
unique_name: small
data_handler_num_bins: 9
data_handler_label_key: LabelsDeepLearning
label_keys_to_load: [PrimaryDirectionX, PrimaryDirectionY, PrimaryDirectionZ, EnergyVisible]
label_weight_initialization: 1.0
label_dir_x_key: PrimaryDirectionX
label_dir_y_key: PrimaryDirectionY
label_dir_z_key: PrimaryDirectionZ
training_data_file: training/*.hdf5
trafo_data_file: training/*.hdf5
validation_data_file: held_out/*.hdf5
test_data_file: held_out/*.hdf5
trafo_model_path: trafo_model.npy
trafo_num_batches: 16
trafo_norm_constant: 0.0001
trafo_log_label_bins: {EnergyVisible: true}
batch_size: 64
num_training_iterations: 300
validation_frequency: 300
validation_set_frequency: 300
validation_events: 300
ema_decay: 0.98
log_path: logs
model_checkpoint_path: checkpoints/model
model_class: dnn_reco.modules.models.dom_transformer.DomTransformer
model_kwargs: {size: S, width: 32, num_layers: 2, hidden: 64, max_tokens: 64}
model_optimizer_dict:
  likelihood:
    optimizer: AdamW
    optimizer_settings: {learning_rate: 0.003}
    loss_class: dnn_reco.modules.loss.density_loss.negative_log_likelihood
    clip_gradients_value: 1.0
"""

folder = Path(tempfile.mkdtemp())
(folder / "small.yaml").write_text(CONFIG)


def dnn_reco(*arguments: str) -> str:
    """Run a command in the folder; its output."""
    command = [sys.executable, "-m", "dnn_reco", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout


TRACKS = """
flavor: numu
energy: [1.0e+3, 1.0e+5]  # GeV
spectral_index: 2
zenith: [85, 180]  # degrees: from below the horizon
nc_fraction: 0
through_going: 1  # share of events whose muon enters the detector
"""
(folder / "tracks.yaml").write_text(TRACKS)

dnn_reco("simulate", "tracks.yaml", "--events", "2000", "--seed", "1", "--out", "training")
dnn_reco("simulate", "tracks.yaml", "--events", "300", "--seed", "2", "--out", "held_out")
dnn_reco("trafo", "small.yaml")
dnn_reco("train", "small.yaml")
_ = dnn_reco("export", "small.yaml", "-o", "model")

# %%
# A density
# ---------
# ``Reconstructor.sky`` returns the density of one event. It can be evaluated anywhere, sampled, and
# integrated.

events = open_events(folder / "held_out/*.hdf5")
reconstructor = Reconstructor(load_model(folder / "model", device="cpu"))
table = reconstructor.predict(events.hits)
areas = [float(reconstructor.sky(table, event).contour_area(0.9)) for event in range(len(events))]
event = int(np.argsort(areas)[len(areas) // 10])  # 90 % of the events have larger regions

sky = reconstructor.sky(table, event)
area_50, area_90 = sky.contour_area([0.5, 0.9])
truth = np.array([events.labels[f"PrimaryDirection{axis}"][event] for axis in "XYZ"])
print(f"50 % region: {area_50:.0f} square degrees, 90 % region: {area_90:.0f} square degrees")
print(f"area of the 90 % region of the median event: {np.median(areas):.0f} square degrees")

# %%
# A map
# -----
# Contours hold 50 % and 90 % of the probability. Zenith and azimuth are those of the source, where
# the particle comes from.

sky_map = plot_sky(sky, [0.5, 0.9], Frame(), "Predicted direction", truth)

# %%
# ``dnn-reco sky`` writes the same as a multi-order HEALPix map, which ligo.skymap and Aladin read.
