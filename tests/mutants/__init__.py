"""Single changes that break a rule of docs/design.md each, for the simulation to find."""
