"""fedmend finds and removes backdoors in models trained by federated learning."""
