"""Mean light of hadronic showers relative to electromagnetic ones of equal energy."""

import numpy as np
from numpy.typing import NDArray

_ALL_OTHERS = (0.18791678, 0.16267529, 0.30974123)
_E0_M_F0 = {
    -211: (0.19826506, 0.16218006, 0.31859323),
    130: (0.21687243, 0.16861530, 0.27724987),
    2212: (0.29579368, 0.19373018, 0.02455403),
    -2212: (0.29579368, 0.19373018, 0.02455403),
    2112: (0.66725124, 0.19263595, 0.17559033),
}


def hadronic_light_fraction(
    energy: NDArray[np.float64], pdg: NDArray[np.integer] | None = None
) -> NDArray[np.float64]:
    """Mean light of a hadronic shower relative to an electromagnetic one of equal energy [n].

    1 - (E/E0)^-m (1 - f0): Rädel and Wiebusch, Astropart. Phys. 44 (2013) 102 (form: Gabriel et
    al., NIM A 338 (1994) 336). For positive pions 0.64 at 10 GeV, 0.83 at 1 TeV, 0.94 at 1 PeV.

    Parameters
    ----------
    energy
        Energies [n] of the showers in GeV; below 2.72 GeV the value at 2.72 GeV is used.
    pdg
        Codes [n] of the particles that start them. Negative pions, long-lived neutral kaons,
        protons, antiprotons and neutrons have their own E0, m and f0; all others those of positive
        pions, which stand for all hadrons if no codes are given.
    """
    e0, m, f0 = (np.full(np.shape(energy), value) for value in _ALL_OTHERS)
    for code, values in _E0_M_F0.items() if pdg is not None else ():
        is_it = pdg == code
        e0[is_it], m[is_it], f0[is_it] = values
    return np.asarray(1 - (np.maximum(energy, np.e) / e0) ** -m * (1 - f0))
