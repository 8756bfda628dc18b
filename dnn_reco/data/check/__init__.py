"""Checks of event files for what spoils a training."""
