"""
Train a small network
=====================

Simulate tracks, fit the transformation, train a small transformer, and plot how it learns.
"""

# %%
# The config
# ----------
# One YAML file describes the training. The network predicts the direction as one density on the
# sphere and the visible energy of the event, each with an uncertainty.

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dnn_reco import load_model, open_events, predict

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
validation_frequency: 100
validation_set_frequency: 50
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
    """Run a command in the folder; its messages."""
    command = [sys.executable, "-m", "dnn_reco", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stderr


# %%
# Simulate and train
# ------------------
# The events are up-going tracks of muon neutrinos between 1 and 100 TeV. The held-out events have
# another seed.

TRACKS = """
flavor: numu
energy: [1.0e+3, 1.0e+5]  # GeV
spectral_index: 2
zenith: [85, 180]  # degrees: from below the horizon
nc_fraction: 0
through_going: 1  # share of events whose muon enters the detector
"""
(folder / "tracks.yaml").write_text(TRACKS)

dnn_reco("simulate", "tracks.yaml", "--events", "2500", "--seed", "1", "--out", "training")
dnn_reco("simulate", "tracks.yaml", "--events", "300", "--seed", "2", "--out", "held_out")
dnn_reco("trafo", "small.yaml")
messages = dnn_reco("train", "small.yaml")
print("".join(messages.splitlines(keepends=True)[-8:]))

# %%
# Curves
# ------
# ``metrics.jsonl`` has a line for each validation.

lines = [json.loads(line) for line in (folder / "logs/metrics.jsonl").open()]
evaluated = [line for line in lines if line.get("validation_set")]
iterations = [line["iterations_done"] for line in evaluated]
loss = [line["validation_set"]["loss"] for line in evaluated]

figure, panel = plt.subplots(figsize=(6, 3.5), layout="constrained")
panel.plot(iterations, loss, marker="o")
panel.set(xlabel="iterations", ylabel="loss of the validation set")
plt.show()

# %%
# Predict
# -------
# The exported model reconstructs the held-out events. Labels come with their uncertainties.

dnn_reco("export", "small.yaml", "-o", "model")
events = open_events(folder / "held_out/*.hdf5")
model = load_model(folder / "model", device="cpu")
predictions = predict(model, events.hits)

AXES = "XYZ"
true = np.stack([events.labels[f"PrimaryDirection{axis}"] for axis in AXES], axis=1)
predicted = np.stack([predictions[f"PrimaryDirection{axis}"] for axis in AXES], axis=1)
cosine = np.sum(true * predicted, axis=1) / np.linalg.norm(predicted, axis=1)
angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
print(f"median opening angle {np.median(angle):.1f}°, at random it is 90°")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.hist(angle, bins=np.linspace(0, 90, 31))
left.set(xlabel="opening angle [°]", ylabel="events")
right.scatter(events.labels["EnergyVisible"], predictions["EnergyVisible"], s=6)
right.set(xscale="log", yscale="log", xlabel="true visible energy [GeV]")
right.set_ylabel("predicted visible energy [GeV]")
right.axline((100, 100), (1000, 1000), color="black", linewidth=1)
plt.show()
