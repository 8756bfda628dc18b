"""Checks of event files for defects that harm a training."""
