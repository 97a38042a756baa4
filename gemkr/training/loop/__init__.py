"""One training loop: steps, schedule, log, resume."""
