"""Values of the `dtype` that all networks have among their `model_kwargs`."""

import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64}
