"""What a person sees: figures, browsers, explorers, judges of exercises."""
