"""
Load and plot an event
======================

Open event files in Python, select events, and draw one.
"""

# %%
# Events
# ------
# ``dnn-reco simulate`` writes event files with the layout of IceCube's table writer. Of files of
# your own, only the pattern changes.

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dnn_reco import open_events, plot_event
from dnn_reco.detector.geometry import dom_positions

folder = Path(tempfile.mkdtemp())
settings = ["--flavor", "numu", "--energy", "10000", "100000", "--events", "30", "--seed", "3"]
simulate = [sys.executable, "-m", "dnn_reco", "simulate", *settings, "--out", str(folder)]
subprocess.run(simulate, check=True, capture_output=True)

events = open_events(folder / "*.hdf5")
print(events)

# %%
# Labels and hits
# ---------------
# Labels are NumPy columns by name. Hits are stored for DOMs with pulses only: hit ``k`` belongs
# to the event ``hits.event[k]`` and to the DOM ``hits.dom[k]``.

hits = events.hits
charge = hits.features[:, 0]
charge_of_event = np.bincount(hits.event, charge, minlength=len(events))
brightest = int(np.argmax(charge_of_event))

for name in ("PrimaryEnergy", "EnergyVisible", "PrimaryZenith", "PrimaryAzimuth"):
    print(f"{name:15s} {events.labels[name][brightest]:10.2f}")
print(f"{charge_of_event[brightest]:.0f} PE in {np.sum(hits.event == brightest)} DOMs")

# %%
# An event display
# ----------------
# On the left the hit strings from the top, on the right the hit DOMs from the side. The first
# hits are red, the last ones blue. ``dnn_reco.event_html`` makes an interactive page in three
# dimensions of the same event.

display = plot_event(hits, brightest)

# %%
# A figure of your own
# --------------------
# Time of the first pulse against depth. The light starts at the interaction, and reaches distant
# DOMs later; hits far from it in time are noise.

selected = hits.event == brightest
depth = dom_positions()[hits.dom[selected]][:, 2]
time = hits.features[selected, 3]

figure, panel = plt.subplots(figsize=(7, 4), layout="constrained")
points = panel.scatter(time, depth, c=np.log10(charge[selected]), s=12)
panel.set(xlabel="time of the first pulse [ns]", ylabel="z of the DOM [m]")
figure.colorbar(points, label="log10(charge / PE)")
plt.show()
