"""Selection: the frontier of predicted structures, and candidates that meet the budget."""
