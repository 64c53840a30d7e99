"""Where it runs: the only package that imports ray or mlflow."""
