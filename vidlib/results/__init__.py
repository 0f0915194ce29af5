"""Numbers and where they come from: runs, accuracy, cost, trust, what was published."""
