"""How many servers keep the wait short: queueing formulas and the sizes that follow from them."""
