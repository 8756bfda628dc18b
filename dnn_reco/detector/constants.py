"""Physical constants of light in vacuum and in the ice of the detector."""

SPEED_OF_LIGHT = 0.299792458
"""Speed of light in vacuum, m/ns."""

GROUP_INDEX = 1.356
"""Group index of the ice around 400 nm, where most detected photons are."""

PHASE_INDEX = 1.3195
"""Phase index of the ice around 400 nm (Price and Woschnagg, Astropart. Phys. 15 (2001) 97)."""

CHERENKOV_COSINE = 1 / PHASE_INDEX
"""Cosine of the Cherenkov angle of a particle at the speed of light, 40.7 degrees."""

FIRST_LIGHT_GROUP_INDEX = 1.35634
"""Group index that the input features assume for unscattered light."""

SPEED_OF_FIRST_LIGHT = SPEED_OF_LIGHT / FIRST_LIGHT_GROUP_INDEX
"""Speed at which unscattered light travels in ice, m/ns."""
