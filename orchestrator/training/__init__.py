"""Training one trial: data, engine and everything a trial is made of; runs without Ray, Hydra and MLflow."""
