"""numpy-regression: linear regression by FedAvg."""
