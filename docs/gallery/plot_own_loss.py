"""
A loss of your own
==================

Write a likelihood, train with it, and check that the uncertainties have its meaning.
"""

# %%
# The loss
# --------
# A loss gets predictions, true values and a context, and returns one value for each label. This one
# is the negative logarithm of a Laplace density, whose tails are longer than those of a normal
# distribution: ``|d| / b + ln b``, with the residual d and the width b. The file is beside the
# config, which names it as ``my_losses.laplace_likelihood``.

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dnn_reco import load_model, open_events, predict

LOSS = """
from dnn_reco.plugins import MIN_UNCERTAINTY, weighted_mean


def laplace_likelihood(prediction, truth, context):
    width = prediction.uncertainty_trafo.clamp(min=MIN_UNCERTAINTY)
    loss = context.residual_trafo.abs() / width + width.log()
    return weighted_mean(loss, context.event_weights)
"""

CONFIG = """
unique_name: small
data_handler_num_bins: 9
data_handler_label_key: LabelsDeepLearning
label_keys_to_load: [EnergyVisible]
label_weight_initialization: 1.0
training_data_file: training/*.hdf5
trafo_data_file: training/*.hdf5
validation_data_file: held_out/*.hdf5
test_data_file: held_out/*.hdf5
trafo_model_path: trafo_model.npy
trafo_num_batches: 16
trafo_norm_constant: 0.0001
trafo_log_label_bins: {EnergyVisible: true}
batch_size: 64
num_training_iterations: 120
validation_frequency: 120
validation_set_frequency: 120
validation_events: 300
ema_decay: 0.98
log_path: logs
model_checkpoint_path: checkpoints/model
model_class: dnn_reco.modules.models.dom_transformer.DomTransformer
model_kwargs: {size: S, width: 32, num_layers: 2, hidden: 64, max_tokens: 64}
model_optimizer_dict:
  own:
    optimizer: AdamW
    optimizer_settings: {learning_rate: 0.003}
    loss_class: my_losses.laplace_likelihood
    clip_gradients_value: 1.0
"""

folder = Path(tempfile.mkdtemp())
(folder / "small.yaml").write_text(CONFIG)
(folder / "my_losses.py").write_text(LOSS)


def dnn_reco(*arguments: str) -> str:
    """Run a command in the folder; its output."""
    command = [sys.executable, "-m", "dnn_reco", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout


# %%
# Training
# --------
# The network predicts the visible energy of showers of electron neutrinos.

SHOWERS = ["--flavor", "nue", "--energy", "1000", "100000"]
dnn_reco("simulate", *SHOWERS, "--events", "2000", "--seed", "1", "--out", "training")
dnn_reco("simulate", *SHOWERS, "--events", "400", "--seed", "2", "--out", "held_out")
dnn_reco("trafo", "small.yaml")
dnn_reco("train", "small.yaml")
_ = dnn_reco("export", "small.yaml", "-o", "model")

# %%
# Are the widths right?
# ---------------------
# If they are, residuals in units of the predicted width follow the Laplace density of width 1. A
# median above that of the density means that widths are too small, as after a training with few
# events; ``dnn-reco calibrate`` corrects that. The label has a logarithm: its uncertainty is that
# of ln(1 + E).

events = open_events(folder / "held_out/*.hdf5")
predictions = predict(load_model(folder / "model", device="cpu"), events.hits)
residual = np.log1p(predictions["EnergyVisible"]) - np.log1p(events.labels["EnergyVisible"])
pull = residual / predictions["EnergyVisible_log_uncertainty"]
print(f"median |residual| / width: {np.median(np.abs(pull)):.2f}; Laplace: {np.log(2):.2f}")

x = np.linspace(-6, 6, 241)
figure, panel = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
panel.hist(pull, bins=np.linspace(-6, 6, 49), density=True, alpha=0.6, label="held-out events")
panel.plot(x, np.exp(-np.abs(x)) / 2, label="Laplace")
panel.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), "--", label="normal")
panel.set(xlabel="residual of ln(1 + E) / predicted width", ylabel="density")
panel.legend()
plt.show()
