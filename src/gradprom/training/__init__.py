"""From a configuration to a trained run: stages, the loop, checkpoints and logs."""
