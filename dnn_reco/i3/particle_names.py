"""Names for the numbers of particles: of the Particle Data Group, and of IceCube's own kinds."""

from __future__ import annotations

_NAMES = {
    0: "unknown",
    11: "e-",
    12: "nu_e",
    13: "mu-",
    14: "nu_mu",
    15: "tau-",
    16: "nu_tau",
    22: "gamma",
    111: "pi0",
    130: "K0_L",
    211: "pi+",
    221: "eta",
    310: "K0_S",
    311: "K0",
    321: "K+",
    411: "D+",
    421: "D0",
    431: "D_s+",
    2112: "n",
    2212: "p",
    3112: "Sigma-",
    3122: "Lambda",
    3212: "Sigma0",
    3222: "Sigma+",
    3312: "Xi-",
    3322: "Xi0",
    3334: "Omega-",
    4122: "Lambda_c+",
    4212: "Sigma_c+",
    4222: "Sigma_c++",
    -2000000004: "nu",
    -2000001001: "brems",
    -2000001002: "delta e",
    -2000001003: "pair",
    -2000001004: "nuclear",
    -2000001005: "mu pair",
    -2000001006: "hadrons",
    -2000001111: "continuous loss",
}
_OPPOSITE = {"-": "+", "+": "-"}
_LEAST_NUCLEUS = 1_000_000_000

SHAPES = {
    0: "null",
    10: "primary",
    20: "top shower",
    30: "cascade",
    31: "cascade segment",
    40: "infinite track",
    50: "starting track",
    60: "stopping track",
    70: "contained track",
    80: "track",
    81: "track segment",
    82: "slow track segment",
    90: "dark",
}
"""Names of the shapes of particles."""

FIT_STATUS = {
    -1: "not set",
    0: "OK",
    10: "general failure",
    20: "too few hits",
    30: "did not converge",
    40: "no seed",
    50: "too low quality",
}
"""Names of the states of a fit."""

LOCATIONS = {0: "anywhere", 10: "IceTop", 20: "in ice", 30: "in active volume"}
"""Names of the places of a particle."""


def pdg_name(code: int) -> str:
    """Name of a particle by its code, such as `mu-`; antiparticles without charge end in `_bar`.

    Nuclei are named by charge and mass number, `Z26 A56`; unknown codes are given as they are.
    Names are abbreviations of those of the Review of Particle Physics (2024), section 45, and of
    IceCube's own codes for energy losses.
    """
    if code in _NAMES:
        return _NAMES[code]
    if _LEAST_NUCLEUS < abs(code) < 2 * _LEAST_NUCLEUS:
        charge, mass = divmod(abs(code) // 10 % 1_000_000, 1000)
        return f"Z{charge} A{mass}"
    name = _NAMES.get(-code)
    if name is None or -code < 0:
        return str(code)
    if name[-1] in _OPPOSITE and not name.endswith(("++", "--")) and -code < 1000:
        return f"{name[:-1]}{_OPPOSITE[name[-1]]}"
    return f"{name}_bar"
