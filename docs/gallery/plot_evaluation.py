"""
Evaluate a network
==================

How good is it, for which events, and are its uncertainties right?
"""

# %%
# A network
# ---------
# A short training, as in the other examples. Any trained config or model folder can be evaluated.

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

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
_ = dnn_reco("train", "small.yaml")

# %%
# Held-out events
# ---------------
# The events to evaluate with have a seed of their own: the network has not seen them, and they were
# not used to choose a checkpoint. The command prints a table, and writes a report with all figures
# for the browser.

dnn_reco("simulate", "tracks.yaml", "--events", "300", "--seed", "3", "--out", "test")
print(dnn_reco("evaluate", "small.yaml", "--test-data", "test/*.hdf5", "--out", "evaluation"))

# %%
# Figures of the report
# ---------------------
# The opening angle between true and reconstructed direction, by energy, zenith and number of hit
# DOMs; and the coverage: the share of events whose true value is inside of the predicted interval
# or cone, minus its nominal probability, with one and two standard deviations in grey.

for name in ("opening_angle", "coverage"):
    picture = plt.imread(folder / f"evaluation/figures/{name}.png")
    height, width = picture.shape[:2]
    figure = plt.figure(figsize=(width / 100, height / 100))
    figure.add_axes((0, 0, 1, 1)).imshow(picture)
    plt.axis("off")
    plt.show()
