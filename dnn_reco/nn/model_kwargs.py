"""Settings that the `model_kwargs` of all networks have in common."""

import torch

DEFAULT_SEED = 42
DTYPES = {"float32": torch.float32, "float64": torch.float64}
