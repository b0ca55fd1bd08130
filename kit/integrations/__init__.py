"""These problems and their grading for other libraries: TRL, verifiers, OpenEnv, lm-eval."""
