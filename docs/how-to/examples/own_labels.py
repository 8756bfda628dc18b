"""A label loader: the labels of the file, and the share of the energy that becomes visible."""

import numpy as np

from dnn_reco.modules.data.labels.default_labels import simple_label_loader


def with_visible_share(input_data, config, label_names=None, *args, **kwargs):
    """Return labels [events, labels] of the file `input_data`, and their names."""
    labels, names = simple_label_loader(input_data, config)
    visible = labels[:, names.index("EnergyVisible")]
    share = visible / labels[:, names.index("PrimaryEnergy")]
    labels, names = np.ma.column_stack([labels, share]), [*names, "VisibleShare"]
    if label_names is None:
        return labels, names
    return labels[:, [names.index(name) for name in label_names]], list(label_names)
