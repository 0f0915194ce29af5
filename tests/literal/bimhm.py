"""Bi-MHM as the equation reads, on plain numbers."""


def bimhm(cost: list[list[float]]) -> float:
    """Every query frame to its nearest support frame, every support frame to its nearest query frame, all added up."""
    total = 0.0
    for row in cost:
        total += min(row)
    for column in range(len(cost[0])):
        total += min(row[column] for row in cost)
    return total
